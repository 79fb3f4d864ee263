//! What a run leaves in its folder: settings, events, TensorBoard's file, plots.

mod curve;
mod log;
mod metrics;
mod tensorboard;

use std::fs::{self, File};
use std::io::Write;
use std::mem;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::error::{Error, Result};
use crate::picture::{Plot, Series, write_plot};
use crate::store::file::{open_file, write_atomically};
use crate::train::{StepEnd, TrainEvent};
use curve::Curve;
use log::Log;
use metrics::Line;

const CONFIG: &str = "config.json";
const METRICS: &str = "metrics.jsonl";

/// Steps wait at most so long for the next write, as long as they come.
const FLUSH: Duration = Duration::from_secs(1);

/// Plots are drawn no more often, nor for more than this part of the time.
const PLOT: Duration = Duration::from_secs(5);
const PLOT_PART: u32 = 100;

/// Writes a run's events into its folder.
///
/// - `config.json`: the settings.
/// - `metrics.jsonl`: each [`TrainEvent`] as a line of JSON, with its `time` in seconds since the Unix epoch.
/// - `events.out.tfevents.*`: the same for TensorBoard, a file for each start: `loss`, `gradient_norm`,
///   `learning_rate`, `images_per_second`, `evaluation/bits_per_dim`, `evaluation/classification_error`, and the samples as images.
/// - `loss.svg` and `loss.png`: the loss, its running mean and the evaluations.
///
/// Steps are written once a second, everything else at once, and what remains when this is dropped.
///
/// A disk that takes nothing must not end a run: what could not be written waits, within bounds, and is written when there
/// is room; no file ever holds half a record. [`Recorder::record`] gives the error of such a time once, for a warning.
pub struct Recorder {
    folder: PathBuf,
    metrics: Log,
    events: Log,
    curves: Curves,
    flushed: Instant,
    /// When the plot was drawn last, and how long that took.
    plotted: Option<(Instant, Duration)>,
    /// The curves have changed since.
    changed: bool,
    outages: Outages,
}

/// What is plotted.
#[derive(Debug, Clone, PartialEq)]
struct Curves {
    training: Curve,
    held_out: Curve,
}

impl Curves {
    fn new() -> Self {
        Self { training: Curve::new(), held_out: Curve::new() }
    }
}

/// What may fail for a while, each for itself.
#[derive(Default)]
struct Outages {
    metrics: Outage,
    events: Outage,
    image: Outage,
    plot: Outage,
}

/// Something fails, and that was told.
#[derive(Default)]
struct Outage(bool);

impl Outage {
    fn tell_once(&mut self, result: Result<()>) -> Result<()> {
        let told = mem::replace(&mut self.0, result.is_err());
        if told { Ok(()) } else { result }
    }
}

impl Recorder {
    /// Goes on in the folder of a run resumed from `from_step`, or starts in a new one where that is 0.
    ///
    /// Resumed, `metrics.jsonl` loses the lines of later steps and what is not a line of JSON: a killed run may have
    /// written beyond its last checkpoint. A fresh run in a used folder keeps the earlier one's `config.json` and
    /// `metrics.jsonl` as `config.1.json` and `metrics.1.jsonl`, or the next number that is free.
    ///
    /// Hold the folder's [`Lock`](crate::store::lock::Lock) meanwhile.
    ///
    /// # Errors
    ///
    /// [`Error::Io`]; [`Error::File`] where one of the files is a folder or a device.
    pub fn open(folder: &Path, from_step: u64, settings: &Value) -> Result<Self> {
        fs::create_dir_all(folder).map_err(Error::io(folder))?;
        if from_step == 0 {
            set_aside(folder)?;
        }
        write_settings(&folder.join(CONFIG), settings)?;
        let path = folder.join(METRICS);
        let curves = if exists(&path)? { metrics::resume(&path, from_step)? } else { Curves::new() };
        let file = File::options().append(true).create(true).open(&path).map_err(Error::io(&path))?;
        let written = file.metadata().map_err(Error::io(&path))?.len();
        Ok(Self {
            folder: folder.to_path_buf(),
            metrics: Log::new(path, file, written),
            events: tensorboard::create(folder, unix_time(), from_step.saturating_add(1))?,
            curves,
            flushed: Instant::now(),
            plotted: None,
            changed: false,
            outages: Outages::default(),
        })
    }

    /// Records one event.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] or [`Error::File`], once for each time in which a file cannot be written: warn and go on.
    pub fn record(&mut self, event: &TrainEvent) -> Result<()> {
        let time = unix_time();
        let line = self.append_line(event, time);
        let image = self.append_summary(event, time);
        let is_step = matches!(event, TrainEvent::StepEnd(_));
        let flushed = if is_step && self.flushed.elapsed() < FLUSH { [Ok(()), Ok(())] } else { self.flush() };
        let plot = match event {
            TrainEvent::RunEnd { .. } => self.plot(),
            TrainEvent::EvaluationEnd { .. } | TrainEvent::CheckpointEnd { .. } if self.plot_is_due() => self.plot(),
            _ => Ok(()),
        };
        flushed.into_iter().fold(line, Result::and).and(image).and(plot)
    }

    /// Returns when the disk has all that was recorded: before a checkpoint is written, so that a run resumed from it
    /// finds every line.
    ///
    /// # Errors
    ///
    /// As [`Recorder::record`].
    pub fn sync(&mut self) -> Result<()> {
        let [metrics, events] = self.flush();
        let synced = self.outages.metrics.tell_once(self.metrics.sync());
        metrics.and(events).and(synced)
    }

    fn append_line(&mut self, event: &TrainEvent, time: f64) -> Result<()> {
        // A path that is not UTF-8 has no JSON.
        let refused = |error: serde_json::Error| Error::file(self.folder.join(METRICS), error.to_string());
        let line = serde_json::to_string(&Line { event, time }).map_err(refused)?;
        self.metrics.append(line.as_bytes());
        self.metrics.append(b"\n");
        Ok(())
    }

    /// For TensorBoard and the plots.
    fn append_summary(&mut self, event: &TrainEvent, time: f64) -> Result<()> {
        match event {
            TrainEvent::StepEnd(step_end) => {
                let &StepEnd { step, loss, gradient_norm, learning_rate, images_per_second, merged, .. } = step_end;
                let values = [
                    ("loss", loss),
                    ("gradient_norm", gradient_norm),
                    ("learning_rate", learning_rate),
                    ("images_per_second", images_per_second),
                ];
                self.events.append(&tensorboard::scalars(time, step, &values));
                self.curves.training.push(step, loss, merged);
                self.changed = true;
            }
            TrainEvent::EvaluationEnd { step, evaluation } => {
                let bits = evaluation.bits_per_dim;
                let error = evaluation.classification_error.map(|error| ("evaluation/classification_error", error));
                let scalars: Vec<_> = std::iter::once(("evaluation/bits_per_dim", bits)).chain(error).collect();
                self.events.append(&tensorboard::scalars(time, *step, &scalars));
                self.curves.held_out.push(*step, bits, 1);
                self.changed = true;
            }
            TrainEvent::SampleEnd { step, path } => {
                let image = read_image(path, time, *step).map(|image| self.events.append(&image));
                return self.outages.image.tell_once(image);
            }
            _ => {}
        }
        Ok(())
    }

    fn flush(&mut self) -> [Result<()>; 2] {
        self.flushed = Instant::now();
        let (metrics, events) = (self.metrics.flush(), self.events.flush());
        [self.outages.metrics.tell_once(metrics), self.outages.events.tell_once(events)]
    }

    fn plot_is_due(&self) -> bool {
        self.plotted.is_none_or(|(last, took)| last.elapsed() >= PLOT.max(took * PLOT_PART))
    }

    fn plot(&mut self) -> Result<()> {
        let started = Instant::now();
        let drawn = self.draw();
        self.plotted = Some((Instant::now(), started.elapsed()));
        self.changed = false;
        self.outages.plot.tell_once(drawn)
    }

    fn draw(&self) -> Result<()> {
        let name = self.folder.canonicalize().ok();
        let name = name.as_deref().and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned();
        let plot = Plot { title: name, x_label: "step".into(), y_label: "bits per dimension".into() };
        let Curves { training, held_out } = &self.curves;
        let mut series = vec![
            Series { name: "training".into(), points: training.points(), faint: true },
            Series { name: "training, running mean".into(), points: training.running_mean(), faint: false },
            Series { name: "held out".into(), points: held_out.points(), faint: false },
        ];
        series.retain(|series| !series.points.is_empty());
        write_plot(&self.folder.join("loss.svg"), &plot, &series)?;
        write_plot(&self.folder.join("loss.png"), &plot, &series)
    }
}

impl Drop for Recorder {
    /// A run that failed has its last plot too.
    fn drop(&mut self) {
        if self.changed {
            let _ = self.draw();
        }
    }
}

fn unix_time() -> f64 {
    // A clock before 1970 is none.
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

fn exists(path: &Path) -> Result<bool> {
    path.try_exists().map_err(Error::io(path))
}

/// Gives an earlier run's files names that will not be used.
fn set_aside(folder: &Path) -> Result<()> {
    let mut number = 0_u64;
    let [config, metrics] = loop {
        number += 1;
        let names = [format!("config.{number}.json"), format!("metrics.{number}.jsonl")].map(|name| folder.join(name));
        if !exists(&names[0])? && !exists(&names[1])? {
            break names;
        }
    };
    for (from, to) in [(folder.join(CONFIG), config), (folder.join(METRICS), metrics)] {
        if exists(&from)? {
            fs::rename(&from, &to).map_err(Error::io(&from))?;
        }
    }
    Ok(())
}

fn write_settings(path: &Path, settings: &Value) -> Result<()> {
    let mut text = serde_json::to_string_pretty(settings).map_err(|error| Error::file(path, error.to_string()))?;
    text.push('\n');
    if fs::read(path).is_ok_and(|old| old == text.as_bytes()) {
        return Ok(());
    }
    write_atomically(path, |writer| writer.write_all(text.as_bytes()))
}

fn read_image(path: &Path, time: f64, step: u64) -> Result<Vec<u8>> {
    open_file(path)?;
    let file = fs::read(path).map_err(Error::io(path))?;
    tensorboard::image(time, step, "samples", &file).ok_or_else(|| Error::file(path, "Expected a PNG file"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::images::ImageShape;
    use crate::models::Evaluation;
    use crate::picture::encode_png;
    use crate::train::TrainSummary;

    fn step(step: u64) -> TrainEvent {
        TrainEvent::StepEnd(StepEnd {
            step,
            epoch: 0,
            loss: 4.0 + 1.0 / step as f64,
            gradient_norm: 2.0,
            learning_rate: 0.25,
            images_per_second: 100.0,
            rebuild_error: None,
            merged: 1,
        })
    }

    fn evaluation(step: u64) -> TrainEvent {
        let evaluation = Evaluation {
            bits_per_dim: 4.0 + 16.0 / step as f64,
            standard_error: 0.5,
            images: 3,
            classification_error: None,
        };
        TrainEvent::EvaluationEnd { step, evaluation }
    }

    fn run_end(step: u64) -> TrainEvent {
        let summary = TrainSummary { step, loss: 4.0, reason: "finished", seconds: 1.0, checkpoint: None };
        TrainEvent::RunEnd { summary }
    }

    fn names(folder: &Path) -> Vec<String> {
        let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.map(|name| name.split(".tfevents").next().unwrap().into()).collect();
        names.sort();
        names
    }

    fn text(folder: &Path) -> String {
        fs::read_to_string(folder.join(METRICS)).unwrap()
    }

    /// The lines without their times.
    fn lines(folder: &Path) -> Vec<Value> {
        let lines = text(folder).lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>();
        let timeless = |mut line: Value| {
            assert!(line["time"].as_f64().unwrap() > 1.7e9, "{line}");
            line.as_object_mut().unwrap().remove("time");
            line
        };
        lines.into_iter().map(timeless).collect()
    }

    #[test]
    fn a_run_leaves_settings_events_and_plots() {
        // GLOWFLOW_RECORD=folder keeps it, to be read with TensorBoard.
        let temporary = tempfile::tempdir().unwrap();
        let folder = std::env::var_os("GLOWFLOW_RECORD").map_or(temporary.path().join("a/run"), PathBuf::from);
        let sample = temporary.path().join("sample.png");
        let shape = ImageShape { height: 2, width: 3, channels: 3 };
        fs::write(&sample, encode_png(&[200; 18], shape).unwrap()).unwrap();

        let mut recorder = Recorder::open(&folder, 0, &json!({ "steps": 300 })).unwrap();
        recorder.record(&TrainEvent::RunStart { step: 0, batches_per_epoch: 1.5, seconds: 0.0 }).unwrap();
        for at in 1..=300 {
            recorder.record(&step(at)).unwrap();
            if at % 100 == 0 {
                recorder.record(&evaluation(at)).unwrap();
            }
        }
        recorder.record(&TrainEvent::SampleEnd { step: 300, path: sample.clone() }).unwrap();
        let path = folder.join("step-00000300");
        recorder.record(&TrainEvent::CheckpointEnd { step: 300, path: path.clone() }).unwrap();
        let message = "a\nb".to_owned();
        recorder.record(&TrainEvent::Warning { step: 300, code: "CODE", message }).unwrap();
        recorder.record(&run_end(300)).unwrap();
        drop(recorder);

        assert_eq!(names(&folder), [CONFIG, "events.out", "loss.png", "loss.svg", METRICS]);
        assert_eq!(fs::read_to_string(folder.join(CONFIG)).unwrap(), "{\n  \"steps\": 300\n}\n");
        let lines = lines(&folder);
        assert_eq!(lines.len(), 1 + 300 + 3 + 1 + 1 + 1 + 1);
        assert_eq!(lines[0], json!({ "type": "run-start", "step": 0, "batchesPerEpoch": 1.5, "seconds": 0.0 }));
        assert_eq!(
            lines[1],
            json!({
                "type": "step-end", "step": 1, "epoch": 0, "loss": 5.0, "gradientNorm": 2.0, "learningRate": 0.25,
                "imagesPerSecond": 100.0, "merged": 1,
            })
        );
        let expected = json!({
            "type": "evaluation-end", "step": 100, "bitsPerDim": 4.0 + 0.16, "standardError": 0.5, "images": 3,
        });
        assert_eq!(lines[101], expected);
        assert_eq!(lines[304], json!({ "type": "sample-end", "step": 300, "path": sample }));
        assert_eq!(lines[305], json!({ "type": "checkpoint-end", "step": 300, "path": path }));
        assert_eq!(lines[306], json!({ "type": "warning", "step": 300, "code": "CODE", "message": "a\nb" }));
        assert_eq!(lines[307]["type"], "run-end");
        let svg = fs::read_to_string(folder.join("loss.svg")).unwrap();
        let title = format!("\n{}\n", folder.file_name().unwrap().to_str().unwrap());
        assert!(svg.contains("running mean") && svg.contains("held out") && svg.contains(&title), "{title}");
    }

    #[test]
    fn a_killed_and_resumed_run_leaves_what_an_unbroken_one_does() {
        let folder = tempfile::tempdir().unwrap();
        let [whole, broken] = ["whole/run", "broken/run"].map(|name| folder.path().join(name));
        let settings = json!({ "steps": 9 });
        let events = |from: u64, to: u64| {
            (from..=to).flat_map(|at| if at % 4 == 0 { vec![step(at), evaluation(at)] } else { vec![step(at)] })
        };
        let record = |folder: &Path, from, to| {
            let mut recorder = Recorder::open(folder, from, &settings).unwrap();
            events(from + 1, to).for_each(|event| recorder.record(&event).unwrap());
            recorder
        };
        record(&whole, 0, 9).record(&run_end(9)).unwrap();

        drop(record(&broken, 0, 7));
        let before = text(&broken);
        let mut file = File::options().append(true).open(broken.join(METRICS)).unwrap();
        file.write_all(br#"{"type":"step-end","st"#).unwrap();
        let mut recorder = record(&broken, 5, 9);
        recorder.sync().unwrap();
        let kept: String = before.lines().take(6).map(|line| format!("{line}\n")).collect();
        assert!(text(&broken).starts_with(&kept));
        recorder.record(&run_end(9)).unwrap();

        assert_eq!(lines(&broken), lines(&whole));
        for plot in ["loss.svg", "loss.png"] {
            assert_eq!(fs::read(broken.join(plot)).unwrap(), fs::read(whole.join(plot)).unwrap(), "{plot}");
        }
        let of_broken = names(&broken);
        assert_eq!(of_broken.iter().filter(|name| *name == "events.out").count(), 2, "{of_broken:?}");
    }

    #[test]
    fn a_fresh_run_in_a_used_folder_loses_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        for run in 1..=3 {
            Recorder::open(folder, 0, &json!({ "run": run })).unwrap().record(&step(run)).unwrap();
        }
        for (name, run) in [("metrics.1.jsonl", 1), ("metrics.2.jsonl", 2), (METRICS, 3)] {
            let line: Value = serde_json::from_slice(&fs::read(folder.join(name)).unwrap()).unwrap();
            assert_eq!(line["step"], run, "{name}");
        }
        for (name, run) in [("config.1.json", 1), ("config.2.json", 2), (CONFIG, 3)] {
            let config: Value = serde_json::from_slice(&fs::read(folder.join(name)).unwrap()).unwrap();
            assert_eq!(config, json!({ "run": run }), "{name}");
        }
    }

    #[test]
    fn a_resumed_run_with_other_settings_says_so() {
        let folder = tempfile::tempdir().unwrap();
        for steps in [1, 2] {
            drop(Recorder::open(folder.path(), 4, &json!({ "steps": steps })).unwrap());
            let config: Value = serde_json::from_slice(&fs::read(folder.path().join(CONFIG)).unwrap()).unwrap();
            assert_eq!(config, json!({ "steps": steps }));
        }
        assert!(!folder.path().join("config.1.json").exists());
    }

    #[test]
    fn steps_are_written_once_a_second_and_the_rest_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let mut recorder = Recorder::open(folder, 0, &json!({})).unwrap();
        recorder.record(&step(1)).unwrap();
        assert_eq!(text(folder), "");
        recorder.flushed = Instant::now().checked_sub(FLUSH).unwrap();
        recorder.record(&step(2)).unwrap();
        assert_eq!(lines(folder).len(), 2);
        recorder.record(&step(3)).unwrap();
        assert_eq!(lines(folder).len(), 2);
        recorder.record(&evaluation(3)).unwrap();
        assert_eq!(lines(folder).len(), 4);
        recorder.record(&step(4)).unwrap();
        recorder.sync().unwrap();
        assert_eq!(lines(folder).len(), 5);
        recorder.record(&step(5)).unwrap();
        drop(recorder);
        assert_eq!(lines(folder).len(), 6);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_told_once() {
        let folder = tempfile::tempdir().unwrap();
        let metrics =
            |to: &Path| Log::new(folder.path().join(METRICS), File::options().append(true).open(to).unwrap(), 0);
        let full = || metrics(Path::new("/dev/full"));
        let mut recorder = Recorder::open(folder.path(), 0, &json!({})).unwrap();
        recorder.metrics = full();
        let error = recorder.record(&evaluation(1)).unwrap_err();
        let Error::Io { path, source } = &error else { panic!("{error}") };
        assert_eq!((path, source.kind()), (&folder.path().join(METRICS), std::io::ErrorKind::StorageFull));
        recorder.record(&evaluation(2)).unwrap();
        recorder.sync().unwrap();
        // Room, and none again.
        recorder.metrics = metrics(&folder.path().join(METRICS));
        recorder.record(&evaluation(3)).unwrap();
        recorder.metrics = full();
        assert!(recorder.record(&evaluation(4)).is_err());
        recorder.events = full();
        assert!(recorder.record(&evaluation(5)).is_err());
        recorder.record(&evaluation(6)).unwrap();
    }

    #[test]
    fn a_sample_that_is_no_picture_is_told_and_its_line_written() {
        let folder = tempfile::tempdir().unwrap();
        let mut recorder = Recorder::open(folder.path(), 0, &json!({})).unwrap();
        let sample = |step| TrainEvent::SampleEnd { step, path: folder.path().join("missing.png") };
        assert!(matches!(recorder.record(&sample(1)), Err(Error::Io { .. })));
        recorder.record(&sample(2)).unwrap();
        assert_eq!(lines(folder.path()).len(), 2);
    }

    #[test]
    fn plots_are_not_drawn_all_the_time_and_always_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let plot = folder.path().join("loss.png");
        let mut recorder = Recorder::open(folder.path(), 0, &json!({})).unwrap();
        let draws = |recorder: &mut Recorder, event| {
            recorder.record(&event).unwrap();
            fs::remove_file(&plot).is_ok()
        };
        assert!(!draws(&mut recorder, step(1)));
        assert!(draws(&mut recorder, evaluation(1)));
        assert!(!draws(&mut recorder, evaluation(2)));
        let long_ago = Instant::now().checked_sub(PLOT).unwrap();
        recorder.plotted = Some((long_ago, Duration::ZERO));
        assert!(draws(&mut recorder, evaluation(3)));
        recorder.plotted = Some((long_ago, Duration::from_secs(1)));
        assert!(!draws(&mut recorder, evaluation(4)));
        assert!(draws(&mut recorder, run_end(4)));
        drop(recorder);
        assert!(!plot.exists());

        // A run that failed.
        let mut recorder = Recorder::open(folder.path(), 4, &json!({})).unwrap();
        recorder.record(&step(5)).unwrap();
        drop(recorder);
        assert!(plot.exists());
    }

    #[test]
    fn a_folder_that_cannot_be_used_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, b"").unwrap();
        assert!(matches!(Recorder::open(&file, 0, &json!({})), Err(Error::Io { .. })));
        fs::create_dir(folder.path().join(METRICS)).unwrap();
        assert!(matches!(Recorder::open(folder.path(), 3, &json!({})), Err(Error::File { .. })));
    }
}
