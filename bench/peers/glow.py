"""Glow (Kingma & Dhariwal 2018) in plain PyTorch, as its ports are usually written: NCHW, float32, autograd.

`layout` and `net` are what the strongest dress changes: the memory format of each level's coupling nets, and how a net is run.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn


def run_net(x, w1, b1, s1, w2, b2, s2, w3, b3, s3):
    """3x3, 1x1, 3x3; the first two followed by an actnorm and a ReLU, the last scaled (Glow's ZeroConv2d)."""
    x = F.relu((F.conv2d(x, w1, padding=1) + b1) * s1.exp())
    x = F.relu((F.conv2d(x, w2) + b2) * s2.exp())
    return (F.conv2d(x, w3, padding=1) + b3) * (3 * s3).exp()


class Net(nn.Module):
    def __init__(self, inputs, hidden, outputs):
        super().__init__()

        def weight(o, i, k, std):
            return nn.Parameter(torch.randn(o, i, k, k) * std)

        def per_channel(c):
            return nn.Parameter(torch.zeros(1, c, 1, 1))

        self.w1, self.b1, self.s1 = weight(hidden, inputs, 3, 0.05), per_channel(hidden), per_channel(hidden)
        self.w2, self.b2, self.s2 = weight(hidden, hidden, 1, 0.05), per_channel(hidden), per_channel(hidden)
        # Not zeros: a net that does nothing would be timed.
        self.w3, self.b3, self.s3 = weight(outputs, hidden, 3, 0.005), per_channel(outputs), per_channel(outputs)
        self.layout = torch.contiguous_format
        self.autocast = False
        self.run = run_net

    def forward(self, x):
        x = x.contiguous(memory_format=self.layout)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.autocast):
            out = self.run(x, self.w1, self.b1, self.s1, self.w2, self.b2, self.s2, self.w3, self.b3, self.s3)
        return out.to(x.dtype)

    def use(self, layout):
        self.layout = layout
        for w in (self.w1, self.w2, self.w3):
            w.data = w.data.contiguous(memory_format=layout)


class Step(nn.Module):
    def __init__(self, channels, hidden):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.log_scale = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.weight = nn.Parameter(torch.linalg.qr(torch.randn(channels, channels))[0].contiguous())
        self.net = Net(channels // 2, hidden, channels)

    def forward(self, x):
        pixels = x.shape[2] * x.shape[3]
        x = (x + self.bias) * self.log_scale.exp()
        x = F.conv2d(x, self.weight[:, :, None, None])
        log_det = pixels * (self.log_scale.sum() + torch.linalg.slogdet(self.weight)[1])
        a, b = x.chunk(2, 1)
        shift, scale = self.net(a).chunk(2, 1)
        scale = scale + 2
        b = (b + shift) * torch.sigmoid(scale)
        return torch.cat([a, b], 1), log_det + F.logsigmoid(scale).flatten(1).sum(1)

    def inverse(self, x):
        a, b = x.chunk(2, 1)
        shift, scale = self.net(a).chunk(2, 1)
        b = b / torch.sigmoid(scale + 2) - shift
        x = F.conv2d(torch.cat([a, b], 1), torch.linalg.inv(self.weight)[:, :, None, None])
        return x * (-self.log_scale).exp() - self.bias


def squeeze(x):
    b, c, h, w = x.shape
    return x.view(b, c, h // 2, 2, w // 2, 2).permute(0, 1, 3, 5, 2, 4).reshape(b, 4 * c, h // 2, w // 2)


def unsqueeze(x):
    b, c, h, w = x.shape
    return x.view(b, c // 4, 2, 2, h, w).permute(0, 1, 4, 2, 5, 3).reshape(b, c // 4, 2 * h, 2 * w)


class ZeroConv(nn.Module):
    """What a prior's mean and log-scale are learned with."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.log_scale = nn.Parameter(torch.zeros(1, outputs, 1, 1))
        nn.init.zeros_(self.conv.weight)
        nn.init.zeros_(self.conv.bias)

    def forward(self, x):
        return self.conv(x) * (3 * self.log_scale).exp()


def gaussian(z, mean, log_scale):
    return (-0.5 * math.log(2 * math.pi) - log_scale - 0.5 * (z - mean) ** 2 * (-2 * log_scale).exp()).flatten(1).sum(1)


class Glow(nn.Module):
    def __init__(self, channels, levels, depth, hidden):
        super().__init__()
        self.levels, self.priors = nn.ModuleList(), nn.ModuleList()
        for level in range(levels):
            channels *= 4
            self.levels.append(nn.ModuleList(Step(channels, hidden) for _ in range(depth)))
            if level < levels - 1:
                channels //= 2
                self.priors.append(ZeroConv(channels, 2 * channels))
        self.top = ZeroConv(2 * channels, 2 * channels)

    def forward(self, x):
        """Latents, the finest first, and the log-density of each image."""
        latents, log_prob = [], 0.0
        for level, steps in enumerate(self.levels):
            x = squeeze(x)
            for step in steps:
                x, log_det = step(x)
                log_prob = log_prob + log_det
            if level < len(self.priors):
                x, z = x.chunk(2, 1)
                mean, log_scale = self.priors[level](x).chunk(2, 1)
                log_prob = log_prob + gaussian(z, mean, log_scale)
                latents.append((z - mean) * (-log_scale).exp())
        mean, log_scale = self.top(torch.zeros_like(x).repeat(1, 2, 1, 1)[:, : self.top.conv.in_channels]).chunk(2, 1)
        log_prob = log_prob + gaussian(x, mean, log_scale)
        latents.append((x - mean) * (-log_scale).exp())
        return latents, log_prob

    def inverse(self, latents):
        z = latents[-1]
        mean, log_scale = self.top(torch.zeros_like(z).repeat(1, 2, 1, 1)[:, : self.top.conv.in_channels]).chunk(2, 1)
        x = z * log_scale.exp() + mean
        for level in reversed(range(len(self.levels))):
            if level < len(self.priors):
                mean, log_scale = self.priors[level](x).chunk(2, 1)
                x = torch.cat([x, latents[level] * log_scale.exp() + mean], 1)
            for step in reversed(self.levels[level]):
                x = step.inverse(x)
            x = unsqueeze(x)
        return x


def check():
    """The inverse undoes the map, and its log-determinant is the Jacobian's."""
    torch.manual_seed(0)
    glow = Glow(1, 2, 2, 8).double()
    x = torch.rand(2, 1, 4, 4, dtype=torch.float64) - 0.5
    latents, log_prob = glow(x)
    assert (glow.inverse(latents) - x).abs().max() < 1e-9

    def flat(v):
        return torch.cat([z.flatten() for z in glow(v.view(1, 1, 4, 4))[0]])

    jacobian = torch.autograd.functional.jacobian(flat, x[0].flatten())
    z = flat(x[0].flatten())
    truth = torch.linalg.slogdet(jacobian)[1] + (-0.5 * math.log(2 * math.pi) - 0.5 * z**2).sum()
    assert (truth - log_prob[0]).abs() < 1e-9, (truth, log_prob[0])


if __name__ == "__main__":
    check()
