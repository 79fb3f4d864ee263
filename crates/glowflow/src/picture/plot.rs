//! Plots of training curves, SVG or PNG: made to be read at half their size.

use std::io::Write;
use std::ops::Range;
use std::path::Path;
use std::sync::Once;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::register_font;
use tiny_skia::Pixmap;

use super::encode_png;
use super::raster::{self, Raster};
use crate::error::{Error, Result};
use crate::images::ImageShape;
use crate::store::file::write_atomically;

/// Width and height. Coordinates are whole numbers, so that a large canvas gives smooth lines.
const SIZE: (u32, u32) = (1600, 900);

/// Points of a drawn line; more than the canvas has columns only make the file larger.
const MOST_POINTS: usize = 3200;

/// A curve of so few points has them marked.
const FEW_POINTS: usize = 40;

/// Share of a curve that the vertical axis shows; what lies above, as the first losses of a run do, leaves through the
/// top.
const SHOWN: f64 = 0.98;

/// Where those 98% still reach far up: the lower three quarters of a curve fill at least a quarter of the height.
const BULK: f64 = 0.75;
const BULK_HEIGHTS: f64 = 4.0;

/// Colours that people with any colour vision can tell apart (Okabe and Ito).
const COLORS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
];
const INK: RGBColor = RGBColor(60, 60, 60);
const LINES: RGBColor = RGBColor(225, 225, 225);

/// What a plot says about itself.
#[derive(Debug, Clone, Default)]
pub struct Plot {
    /// Above the plot.
    pub title: String,
    /// Name and unit of the horizontal axis.
    pub x_label: String,
    /// Name and unit of the vertical axis.
    pub y_label: String,
}

/// One curve.
#[derive(Debug, Clone, Default)]
pub struct Series {
    /// In the legend; left out of it if empty.
    pub name: String,
    /// x and y, x ascending. A point that is not finite is left out.
    pub points: Vec<(f64, f64)>,
    /// Thin and pale, in the colour of the next curve that is not: raw values behind their running mean.
    pub faint: bool,
}

/// Writes a line plot, whole or not at all: SVG or PNG, as the file's name says.
///
/// # Errors
///
/// [`Error::Option`] where the name ends in neither `.svg` nor `.png`; those of [`write_atomically`].
pub fn write_plot(path: &Path, plot: &Plot, series: &[Series]) -> Result<()> {
    let ends_in = |end: &str| path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case(end));
    let bytes = if ends_in("svg") {
        svg(plot, series)?.into_bytes()
    } else if ends_in("png") {
        png(plot, series)?
    } else {
        return Err(Error::option("file", "a name that ends in .svg or .png", path.display()));
    };
    write_atomically(path, |writer| writer.write_all(&bytes))
}

fn svg(plot: &Plot, series: &[Series]) -> Result<String> {
    let mut svg = String::new();
    draw(SVGBackend::with_string(&mut svg, SIZE), plot, series)?;
    Ok(svg)
}

fn png(plot: &Plot, series: &[Series]) -> Result<Vec<u8>> {
    let (width, height) = SIZE;
    let no_room = || Error::Internal { message: "no picture for a plot".into() };
    let mut pixmap = Pixmap::new(width, height).ok_or_else(no_room)?;
    draw(Raster(&mut pixmap), plot, series)?;
    // The plot has filled its background: nothing is transparent.
    let rgb: Vec<u8> = pixmap.data().chunks_exact(4).flat_map(|rgba| [rgba[0], rgba[1], rgba[2]]).collect();
    encode_png(&rgb, ImageShape { height: height as usize, width: width as usize, channels: 3 })
}

fn draw<B: DrawingBackend<ErrorType: 'static>>(backend: B, plot: &Plot, series: &[Series]) -> Result<()> {
    // plotters measures text with the fonts it was given, for SVG too.
    static FONT: Once = Once::new();
    FONT.call_once(|| drop(register_font("sans-serif", FontStyle::Normal, raster::font())));
    draw_on(&backend.into_drawing_area(), plot, series)
        .map_err(|error| Error::Internal { message: format!("a plot failed: {error}") })
}

fn draw_on<B: DrawingBackend<ErrorType: 'static>>(
    canvas: &DrawingArea<B, Shift>,
    plot: &Plot,
    series: &[Series],
) -> Result<(), Box<dyn std::error::Error>> {
    let lines: Vec<Vec<(f64, f64)>> = series.iter().map(|series| finite(&series.points)).collect();
    let (x, y) = (x_range(&lines), y_range(&lines));
    canvas.fill(&WHITE)?;
    let font = |size: u32| ("sans-serif", size).into_font().color(&INK);
    let mut chart = ChartBuilder::on(canvas)
        .caption(clean(&plot.title), font(40))
        .margin(24)
        .margin_right(48)
        .x_label_area_size(84)
        .y_label_area_size(124)
        .build_cartesian_2d(x, y.clone())?;
    chart
        .configure_mesh()
        .x_desc(clean(&plot.x_label))
        .y_desc(clean(&plot.y_label))
        .axis_desc_style(font(32))
        .label_style(font(28))
        .axis_style(INK)
        .bold_line_style(LINES)
        .light_line_style(TRANSPARENT)
        .x_labels(9)
        .y_labels(8)
        .x_label_formatter(&|value| tick(*value))
        .y_label_formatter(&|value| tick(*value))
        .draw()?;

    for (at, (curve, line)) in series.iter().zip(&lines).enumerate() {
        let color = COLORS[solid_before(series, at) % COLORS.len()];
        let style = if curve.faint { color.mix(0.35).stroke_width(2) } else { color.stroke_width(4) };
        let name = clean(&curve.name);
        let drawn = chart.draw_series(clip(&thin(line), &y).into_iter().map(|piece| PathElement::new(piece, style)))?;
        if !name.is_empty() {
            drawn.label(name).legend(move |(x, y)| PathElement::new([(x, y), (x + 48, y)], style));
        }
        // A curve of few points may be a single one, which has no line.
        if line.len() <= FEW_POINTS && !curve.faint {
            let seen = line.iter().filter(|(_, value)| y.contains(value));
            chart.draw_series(seen.map(|&point| Circle::new(point, 6, color.filled())))?;
        }
    }
    if series.iter().any(|series| !series.name.is_empty()) {
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperRight)
            .legend_area_size(60)
            .margin(16)
            .label_font(font(28))
            .background_style(WHITE.mix(0.85))
            .border_style(LINES)
            .draw()?;
    }
    canvas.present()?;
    Ok(())
}

/// Curves before this one that are not faint: the colour's index.
fn solid_before(series: &[Series], at: usize) -> usize {
    series[..at].iter().filter(|series| !series.faint).count()
}

fn finite(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    points.iter().copied().filter(|(x, y)| x.is_finite() && y.is_finite()).collect()
}

fn x_range(lines: &[Vec<(f64, f64)>]) -> Range<f64> {
    let all = || lines.iter().flatten().map(|&(x, _)| x);
    widen(all().fold(f64::INFINITY, f64::min), all().fold(f64::NEG_INFINITY, f64::max), 0.0)
}

/// From the lowest value to the highest that some curve is to show (see [`SHOWN`] and [`BULK`]), and a margin.
fn y_range(lines: &[Vec<(f64, f64)>]) -> Range<f64> {
    let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
    for line in lines.iter().filter(|line| !line.is_empty()) {
        let mut values: Vec<f64> = line.iter().map(|&(_, y)| y).collect();
        values.sort_by(f64::total_cmp);
        // Rounded up: a curve of few points is shown whole.
        let quantile = |share: f64| values[((values.len() - 1) as f64 * share).ceil() as usize];
        let bulk = values[0] + BULK_HEIGHTS * (quantile(BULK) - values[0]);
        low = low.min(values[0]);
        // A bulk of one value says nothing about height.
        high = high.max(if bulk > values[0] { quantile(SHOWN).min(bulk) } else { quantile(SHOWN) });
    }
    widen(low, high, 0.05)
}

/// A range with a margin, of some width even where there is one value or none.
fn widen(low: f64, high: f64, margin: f64) -> Range<f64> {
    if low > high {
        return 0.0..1.0;
    }
    // Ends beyond this have no finite difference.
    let (low, high) = (low.max(f64::MIN / 4.0), high.min(f64::MAX / 4.0));
    let size = low.abs().max(high.abs());
    // Ticks closer than the rounding of their numbers would never reach the end of the axis.
    let width = high - low;
    let extra = if width > size * 1e-9 { width * margin } else { (size * 0.05).max(0.5) };
    low - extra..high + extra
}

/// At most [`MOST_POINTS`]: of each stretch the lowest and the highest point, so that no spike is lost.
fn thin(line: &[(f64, f64)]) -> Vec<(f64, f64)> {
    if line.len() <= MOST_POINTS {
        return line.to_vec();
    }
    let stretch = line.len().div_ceil(MOST_POINTS / 2);
    line.chunks(stretch)
        .flat_map(|points| {
            let by_y = |a: &&(f64, f64), b: &&(f64, f64)| a.1.total_cmp(&b.1);
            let low = points.iter().min_by(by_y);
            let high = points.iter().max_by(by_y);
            let mut ends: Vec<(f64, f64)> = low.into_iter().chain(high).copied().collect();
            ends.sort_by(|a, b| a.0.total_cmp(&b.0));
            ends.dedup();
            ends
        })
        .collect()
}

/// The pieces of a line whose y is in `range`, cut where it leaves: the SVG backend would draw over title and margin.
fn clip(line: &[(f64, f64)], range: &Range<f64>) -> Vec<Vec<(f64, f64)>> {
    let mut pieces: Vec<Vec<(f64, f64)>> = Vec::new();
    for (&from, &to) in line.iter().zip(line.iter().skip(1)) {
        if from.1.max(to.1) < range.start || from.1.min(to.1) > range.end {
            continue;
        }
        let (from, to) = (cut(from, to, range), cut(to, from, range));
        match pieces.last_mut() {
            Some(piece) if piece.last() == Some(&from) => piece.push(to),
            _ => pieces.push(vec![from, to]),
        }
    }
    pieces
}

/// `point`, moved along the line to `other` until its y is in `range`.
fn cut(point: (f64, f64), other: (f64, f64), range: &Range<f64>) -> (f64, f64) {
    let edge = point.1.clamp(range.start, range.end);
    if edge == point.1 {
        return point;
    }
    let part = (edge - point.1) / (other.1 - point.1);
    (point.0 + part * (other.0 - point.0), edge)
}

/// A number at an axis: `20,000`, `3.25`, `1e-7`.
fn tick(value: f64) -> String {
    let size = value.abs();
    if size != 0.0 && !(1e-4..1e9).contains(&size) {
        return format!("{value:e}");
    }
    // Ticks are round numbers with the rounding of a sum: four decimals hold them.
    let text = format!("{value:.4}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" {
        return "0".into();
    }
    let (whole, fraction) = text.split_once('.').map_or((text, ""), |(whole, _)| (whole, &text[whole.len()..]));
    let (sign, digits) = whole.split_at(whole.len() - whole.trim_start_matches('-').len());
    let mut grouped = String::from(sign);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped + fraction
}

/// Without characters that XML forbids even as entities.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::super::png::tests::decode;
    use super::*;
    use crate::random::{Key, Purpose};

    fn labels() -> Plot {
        Plot { title: "Loss <of> \"a\" & b".into(), x_label: "step".into(), y_label: "bits per dimension".into() }
    }

    /// A run's loss: huge at first, noisy later, with a NaN; and its running mean.
    fn run(steps: usize) -> [Series; 3] {
        let mut noise = vec![0.0; steps];
        Key { seed: 1, purpose: Purpose::Sample, step: 0, image: 0 }.stream().fill_normal(0.12, &mut noise);
        let loss = |i: usize| {
            let t = i as f64;
            3.4 + 4.0 * (-t / 700.0).exp() + 2000.0 * (-t / 3.0).exp() + noise[i] as f64
        };
        let raw: Vec<(f64, f64)> = (0..steps).map(|i| (i as f64, if i == 50 { f64::NAN } else { loss(i) })).collect();
        let mut mean = raw[0].1;
        let smooth = raw.iter().filter(|(_, y)| y.is_finite()).map(|&(x, y)| {
            mean += 0.05 * (y - mean);
            (x, mean)
        });
        let smooth = smooth.collect();
        let held_out = (1..=10).map(|i| (i as f64 * steps as f64 / 10.0, 3.6 + 3.0 / i as f64)).collect();
        [
            Series { name: String::new(), points: raw, faint: true },
            Series { name: "training".into(), points: smooth, faint: false },
            Series { name: "held out".into(), points: held_out, faint: false },
        ]
    }

    #[test]
    fn a_plot_is_written() {
        // GLOWFLOW_PLOT=file.svg keeps it and a PNG, to be looked at.
        let folder = tempfile::tempdir().unwrap();
        let path = std::env::var_os("GLOWFLOW_PLOT").map_or(folder.path().join("loss.svg"), Into::into);
        write_plot(&path, &labels(), &run(20_000)).unwrap();
        let svg = std::fs::read_to_string(&path).unwrap();
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
        for text in
            ["Loss &lt;of&gt; &quot;a&quot; &amp; b", "step", "bits per dimension", "training", "held out", "20,000"]
        {
            assert!(svg.contains(text), "{text}");
        }
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
        assert!(svg.len() < 200_000, "{} bytes", svg.len());

        let path = path.with_extension("PNG");
        write_plot(&path, &labels(), &run(20_000)).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert!(bytes.len() < 300_000, "{} bytes", bytes.len());
        let (shape, pixels) = decode(&bytes);
        assert_eq!(shape.to_string(), "900x1600x3");
        let count = |color: RGBColor| pixels.chunks_exact(3).filter(|&rgb| rgb == [color.0, color.1, color.2]).count();
        // Both curves, the letters, and mostly paper.
        assert!(count(COLORS[0]) > 2000 && count(COLORS[1]) > 1000, "{} {}", count(COLORS[0]), count(COLORS[1]));
        assert!(count(INK) > 2000, "{}", count(INK));
        assert!(count(WHITE) > pixels.len() / 3 / 2, "{}", count(WHITE));
    }

    #[test]
    fn only_names_of_pictures_are_taken() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["loss.pdf", "loss", ".png", "loss.svg.gz"] {
            let path = folder.path().join(name);
            let error = write_plot(&path, &labels(), &[]).unwrap_err();
            let sentence =
                format!("Expected a name that ends in .svg or .png for file but received {}", path.display());
            assert_eq!((error.code(), error.to_string()), ("ERR_GLOW_OPTION", sentence));
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn any_text_can_be_drawn() {
        let blank = png(&Plot::default(), &[]).unwrap();
        for text in [
            "Verlust ÄÖÜß",
            "потери",
            "損失 ロス",
            "🙂👩‍👩‍👧",
            "e\u{301}\u{302}\u{200d}\u{202e}abc",
            "\u{0}\u{7}\n\t\u{fffe}",
            &"wide ".repeat(20_000),
        ] {
            let plot = Plot { title: text.into(), x_label: text.into(), y_label: text.into() };
            let series = Series { name: text.into(), points: vec![(0.0, 1.0), (1.0, 2.0)], faint: false };
            svg(&plot, std::slice::from_ref(&series)).unwrap();
            assert_ne!(png(&plot, &[series]).unwrap(), blank, "{text:.20}");
        }
    }

    #[test]
    fn the_first_losses_do_not_flatten_the_curve() {
        let lines: Vec<_> = run(2000).iter().map(|series| finite(&series.points)).collect();
        let range = y_range(&lines);
        assert!(range.start > 2.5 && range.end < 12.0, "{range:?}");
        // Few points are shown whole.
        let range = y_range(&[vec![(0.0, 1.0), (1.0, 2.0), (2.0, 9.0)]]);
        assert!(range.start < 1.0 && range.end > 9.0, "{range:?}");
    }

    #[test]
    fn odd_data_still_make_a_plot() {
        for points in [
            vec![],
            vec![(f64::NAN, 1.0), (1.0, f64::INFINITY)],
            vec![(5.0, 3.0)],
            vec![(0.0, 0.0), (1.0, 0.0)],
            vec![(0.0, 1e-300), (1e-300, 2e-300)],
            vec![(0.0, -1e308), (1e308, 1e308)],
            vec![(-f64::MAX, -f64::MAX), (f64::MAX, f64::MAX)],
            vec![(1e17, 1e17), (1e17 + 16.0, 1e17 + 16.0)],
            vec![(1e9, 3.0), (1e9, 4.0)],
        ] {
            let series = Series { name: "x\u{0}".into(), points: points.clone(), faint: false };
            let svg = svg(&labels(), std::slice::from_ref(&series)).unwrap();
            assert!(svg.contains(">\nx ") && !svg.contains("NaN"), "{points:?}");
            png(&labels(), &[series]).unwrap();
        }
        svg(&Plot::default(), &[]).unwrap();
        png(&Plot::default(), &[]).unwrap();
    }

    #[test]
    fn a_line_is_cut_at_the_edge() {
        let line = [(0.0, 0.0), (1.0, 4.0), (2.0, 0.0), (3.0, 1.0), (4.0, -1.0), (5.0, 5.0)];
        let pieces = clip(&line, &(0.0..2.0));
        assert_eq!(
            pieces,
            [
                vec![(0.0, 0.0), (0.5, 2.0)],
                vec![(1.5, 2.0), (2.0, 0.0), (3.0, 1.0), (3.5, 0.0)],
                vec![(4.0 + 1.0 / 6.0, 0.0), (4.5, 2.0)]
            ]
        );
        assert_eq!(clip(&[(0.0, 3.0), (1.0, 4.0)], &(0.0..2.0)).len(), 0);
    }

    #[test]
    fn thinning_keeps_every_spike() {
        let mut line: Vec<(f64, f64)> = (0..100_000).map(|i| (i as f64, 0.0)).collect();
        line[54_321].1 = 7.0;
        line[77_777].1 = -7.0;
        let thinned = thin(&line);
        assert!(thinned.len() <= MOST_POINTS && thinned.is_sorted_by(|a, b| a.0 <= b.0));
        assert!(thinned.contains(&(54_321.0, 7.0)) && thinned.contains(&(77_777.0, -7.0)));
    }

    #[test]
    fn ticks_are_short() {
        let ticks = [0.0, -0.0, 3.25, 0.30000000000000004, 20_000.0, -1_234_567.5, 1e-7, 2e12, 999.0];
        let text = ticks.map(tick);
        assert_eq!(text, ["0", "0", "3.25", "0.3", "20,000", "-1,234,567.5", "1e-7", "2e12", "999"]);
    }
}
