//! What plotters draws, as pixels: smooth lines, and text in a font of our own, so that a PNG is the same everywhere.

use std::convert::Infallible;

use ab_glyph::{Font, FontRef, OutlineCurve, Point};
use plotters_backend::text_anchor::{HPos, VPos};
use plotters_backend::{
    BackendColor, BackendCoord, BackendStyle, BackendTextStyle, DrawingBackend, DrawingErrorKind, FontTransform,
};
use tiny_skia::{Color, FillRule, LineCap, LineJoin, Paint, Path, PathBuilder, Pixmap, Rect, Stroke, Transform};

/// DejaVu Sans: Latin, Greek, Cyrillic, Arabic, signs. Of other scripts it draws boxes.
pub(super) fn font() -> &'static [u8] {
    dejavu::sans::regular()
}

/// plotters' sizes are those of a line of text, SVG's and ours of its em: plotters' own SVG backend divides by this.
const LINE_HEIGHT: f64 = 1.24;

/// Baselines below the anchor in ems, as plotters' SVG backend has them (an ex is 0.55 em).
const BELOW_TOP: f32 = 0.76;
const HALF_AN_EX: f32 = 0.27;

/// Draws on a picture, with y downwards.
pub(super) struct Raster<'a>(pub &'a mut Pixmap);

type Drawn = Result<(), DrawingErrorKind<Infallible>>;

fn paint(color: BackendColor) -> Paint<'static> {
    let (red, green, blue) = color.rgb;
    let mut color_with_alpha = Color::from_rgba8(red, green, blue, u8::MAX);
    color_with_alpha.set_alpha(color.alpha as f32);
    let mut paint = Paint::default();
    paint.set_color(color_with_alpha);
    paint
}

impl Raster<'_> {
    fn fill(&mut self, path: Option<Path>, color: BackendColor, transform: Transform) -> Drawn {
        if let Some(path) = path {
            self.0.fill_path(&path, &paint(color), FillRule::Winding, transform, None);
        }
        Ok(())
    }

    /// Along the middle of the pixels: a line one pixel wide is one pixel wide.
    fn stroke(&mut self, path: Option<Path>, style: &impl BackendStyle) -> Drawn {
        let stroke = Stroke {
            width: style.stroke_width() as f32,
            line_cap: LineCap::Round,
            line_join: LineJoin::Round,
            ..Stroke::default()
        };
        if let Some(path) = path {
            let transform = Transform::from_translate(0.5, 0.5);
            self.0.stroke_path(&path, &paint(style.color()), &stroke, transform, None);
        }
        Ok(())
    }
}

/// A line from point to point.
fn polyline(points: impl IntoIterator<Item = BackendCoord>) -> PathBuilder {
    let mut path = PathBuilder::new();
    for (x, y) in points {
        let (x, y) = (x as f32, y as f32);
        if path.is_empty() { path.move_to(x, y) } else { path.line_to(x, y) }
    }
    path
}

impl DrawingBackend for Raster<'_> {
    type ErrorType = Infallible;

    fn get_size(&self) -> (u32, u32) {
        (self.0.width(), self.0.height())
    }

    fn ensure_prepared(&mut self) -> Drawn {
        Ok(())
    }

    fn present(&mut self) -> Drawn {
        Ok(())
    }

    fn draw_pixel(&mut self, (x, y): BackendCoord, color: BackendColor) -> Drawn {
        self.draw_rect((x, y), (x + 1, y + 1), &color, true)
    }

    fn draw_line<S: BackendStyle>(&mut self, from: BackendCoord, to: BackendCoord, style: &S) -> Drawn {
        self.draw_path([from, to], style)
    }

    fn draw_rect<S: BackendStyle>(&mut self, from: BackendCoord, to: BackendCoord, style: &S, fill: bool) -> Drawn {
        let rect = Rect::from_ltrb(from.0 as f32, from.1 as f32, to.0 as f32, to.1 as f32);
        let path = rect.map(PathBuilder::from_rect);
        if fill { self.fill(path, style.color(), Transform::identity()) } else { self.stroke(path, style) }
    }

    fn draw_path<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(&mut self, path: I, style: &S) -> Drawn {
        self.stroke(polyline(path).finish(), style)
    }

    fn draw_circle<S: BackendStyle>(&mut self, (x, y): BackendCoord, radius: u32, style: &S, fill: bool) -> Drawn {
        let path = PathBuilder::from_circle(x as f32, y as f32, radius as f32);
        let middle = Transform::from_translate(0.5, 0.5);
        if fill { self.fill(path, style.color(), middle) } else { self.stroke(path, style) }
    }

    fn fill_polygon<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(&mut self, corners: I, style: &S) -> Drawn {
        self.fill(polyline(corners).finish(), style.color(), Transform::identity())
    }

    /// plotters would draw each letter without the room on its left, at a whole pixel.
    fn draw_text<S: BackendTextStyle>(&mut self, text: &str, style: &S, (x, y): BackendCoord) -> Drawn {
        let font = FontRef::try_from_slice(font()).map_err(|error| DrawingErrorKind::FontError(Box::new(error)))?;
        let em = (style.size() / LINE_HEIGHT) as f32;
        let (path, width) = outline(&font, em, text);
        let left = match style.anchor().h_pos {
            HPos::Left => 0.0,
            HPos::Center => -width / 2.0,
            HPos::Right => -width,
        };
        let baseline = match style.anchor().v_pos {
            VPos::Top => BELOW_TOP * em,
            VPos::Center => HALF_AN_EX * em,
            VPos::Bottom => -HALF_AN_EX * em,
        };
        let degrees = match style.transform() {
            FontTransform::None => 0.0,
            FontTransform::Rotate90 => 90.0,
            FontTransform::Rotate180 => 180.0,
            FontTransform::Rotate270 => 270.0,
        };
        let place = Transform::from_translate(left, baseline).post_rotate(degrees).post_translate(x as f32, y as f32);
        self.fill(path, style.color(), place)
    }
}

/// A line of text that starts at 0, 0, and its width.
fn outline(font: &FontRef<'static>, em: f32, text: &str) -> (Option<Path>, f32) {
    let scale = em / font.units_per_em().unwrap_or(1000.0);
    let (mut path, mut pen, mut previous) = (PathBuilder::new(), 0.0, None);
    for glyph in text.chars().map(|c| font.glyph_id(c)) {
        if let Some(previous) = previous {
            pen += font.kern_unscaled(previous, glyph);
        }
        previous = Some(glyph);
        let curves = font.outline(glyph).map_or_else(Vec::new, |outline| outline.curves);
        let place = |point: Point| ((pen + point.x) * scale, -point.y * scale);
        let mut last = None;
        for curve in curves {
            let (from, to) = match curve {
                OutlineCurve::Line(from, to) | OutlineCurve::Quad(from, _, to) => (from, to),
                OutlineCurve::Cubic(from, _, _, to) => (from, to),
            };
            if last != Some(from) {
                let (x, y) = place(from);
                path.move_to(x, y);
            }
            last = Some(to);
            let (x, y) = place(to);
            match curve {
                OutlineCurve::Line(..) => path.line_to(x, y),
                OutlineCurve::Quad(_, a, _) => {
                    let (ax, ay) = place(a);
                    path.quad_to(ax, ay, x, y);
                }
                OutlineCurve::Cubic(_, a, b, _) => {
                    let ((ax, ay), (bx, by)) = (place(a), place(b));
                    path.cubic_to(ax, ay, bx, by, x, y);
                }
            }
        }
        pen += font.h_advance_unscaled(glyph);
    }
    (path.finish(), pen * scale)
}
