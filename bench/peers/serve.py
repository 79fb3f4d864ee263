"""A peer in Python: reads what to do on stdin, a JSON object a line, and answers so on stdout."""

import json
import signal
import sys
import time

import torch

import glow

LAYOUTS = [torch.contiguous_format, torch.channels_last]
COMPILE_SECONDS = 120


def seconds_of(work, times=1):
    start = time.perf_counter()
    for _ in range(times):
        work()
    return (time.perf_counter() - start) / times


def best_seconds(work):
    work()
    return min(seconds_of(work) for _ in range(3))


def normflows(spec):
    """As in the package's own example for images."""
    import normflows as nf

    levels, depth, hidden = spec["levels"], spec["depth"], spec["hidden"]
    size, channels = 32, 3
    bases, merges, flows = [], [], []
    for i in range(levels):
        flows.append(
            [
                nf.flows.GlowBlock(channels * 2 ** (levels + 1 - i), hidden, split_mode="channel", scale=True)
                for _ in range(depth)
            ]
            + [nf.flows.Squeeze()]
        )
        if i > 0:
            merges.append(nf.flows.Merge())
            shape = (channels * 2 ** (levels - i), size // 2 ** (levels - i), size // 2 ** (levels - i))
        else:
            shape = (channels * 2 ** (levels + 1), size // 2**levels, size // 2**levels)
        bases.append(nf.distributions.DiagGaussian(shape))
    return nf.MultiscaleFlow(bases, flows, merges, class_cond=False)


class Peer:
    def __init__(self, spec):
        torch.manual_seed(0)
        torch.set_num_threads(spec["threads"])
        self.spec, self.at, self.notes = spec, 0, []
        pixels = torch.frombuffer(bytearray(open(spec["images"], "rb").read()), dtype=torch.uint8)
        self.pixels = pixels.view(-1, 32, 32, 3).permute(0, 3, 1, 2).contiguous()
        if spec["peer"] == "normflows":
            self.model = normflows(spec)
            self.loss = self.model.forward_kld
        else:
            self.model = glow.Glow(3, spec["levels"], spec["depth"], spec["hidden"])
            self.loss = lambda x: -self.model(x)[1].mean()
        fused = {}
        if spec["peer"] == "dressed":
            self.dress()
            fused = {"fused": True}
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-4, **fused)
        if spec["task"] == "decode":
            with torch.inference_mode():
                self.latents = self.model(self.batch())[0]

    def batch(self):
        """The next images, dequantized."""
        count = self.spec["batch"]
        if self.at + count > len(self.pixels):
            self.at = 0
        part = self.pixels[self.at : self.at + count]
        self.at += count
        return (part + torch.rand(part.shape)) / 256 - 0.5

    def step(self):
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss(self.batch())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 50.0)
        self.optimizer.step()
        return loss

    def work(self):
        task = self.spec["task"]
        if task == "train":
            self.step()
            return
        with torch.inference_mode():
            if task == "encode":
                self.model(self.batch())
            else:
                self.model.inverse(self.latents)

    def dress(self):
        """The better layout for each level's nets, then a compiled net where that is faster still."""
        training = self.spec["task"] == "train"
        for level, steps in enumerate(self.model.levels):
            for step in steps:
                step.net.autocast = self.spec["precision"] == "bf16"
            net, size = steps[0].net, 32 // 2 ** (level + 1)
            x = torch.randn(self.spec["batch"], net.w1.shape[1], size, size, requires_grad=training)

            def run():
                if training:
                    net(x).sum().backward()
                else:
                    with torch.inference_mode():
                        net(x)

            times = []
            for layout in LAYOUTS:
                net.use(layout)
                times.append(best_seconds(run))
            layout = LAYOUTS[times.index(min(times))]
            self.notes.append(f"level {level}: {layout}".replace("torch.", ""))
            try:
                signal.alarm(COMPILE_SECONDS)
                plain = min(times)
                net.use(layout)
                net.run = torch.compile(glow.run_net, dynamic=False)
                compiled = best_seconds(run)
                self.notes.append(f"compiled {plain / compiled:.2f}x")
                chosen = net.run if compiled < plain else glow.run_net
            except BaseException as error:  # a compiler has many ways to fail, and all of them end in the plain net
                self.notes.append(f"not compiled: {type(error).__name__}")
                chosen = glow.run_net
            finally:
                signal.alarm(0)
            for step in steps:
                step.net.use(layout)
                step.net.run = chosen
            self.model.zero_grad(set_to_none=True)


def too_slow(*_):
    raise TimeoutError


def main():
    signal.signal(signal.SIGALRM, too_slow)
    spec = json.loads(sys.argv[1])
    if spec["peer"] != "normflows":
        glow.check()
    peer = Peer(spec)
    print(json.dumps({"ready": True, "notes": peer.notes, "version": torch.__version__}), flush=True)
    for line in sys.stdin:
        times = json.loads(line)["times"]
        seconds = seconds_of(peer.work, times) * times
        print(json.dumps({"seconds": seconds}), flush=True)


if __name__ == "__main__":
    main()
