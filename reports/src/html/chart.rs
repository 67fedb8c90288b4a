//! Charts as inline SVG: plotters draws the shapes, the page's style sheet gives them their colours.
//!
//! plotters knows colours and no classes, so a [`Pen`] is drawn as a colour of its own, and the colour is made a class
//! afterwards. That is what lets one drawing be read on light and on dark, and on paper. It also writes no ids, so that
//! many drawings can share a page.

use maud::{Markup, PreEscaped, html};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::axis::Axis;

/// Units of the drawing for each pixel: plotters rounds to whole units, and half a pixel shows in a curve.
const SCALE: u32 = 4;

/// How many pens there are for methods: the control's, and seven more, over and over.
pub(crate) const PENS: usize = 8;

/// What a shape is drawn with.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pen {
    /// Lines behind the figures.
    Grid,
    /// Where nothing has changed.
    Reference,
    /// An interval.
    Whisker,
    /// Text.
    Label,
    /// A line of a method, with its dashes.
    Line(usize),
    /// A surface of a method.
    Fill(usize),
    /// The same, so faint that others can lie on it.
    Tint(usize),
}

impl Pen {
    fn colour(self) -> RGBColor {
        let (kind, method) = match self {
            Self::Grid => (0, 0),
            Self::Reference => (1, 0),
            Self::Whisker => (2, 0),
            Self::Label => (3, 0),
            Self::Line(method) => (4, method),
            Self::Fill(method) => (5, method),
            Self::Tint(method) => (6, method),
        };
        let method = u8::try_from(method % PENS).unwrap_or_default();
        RGBColor(kind, method, 0)
    }

    /// The class in the style sheet.
    pub(crate) fn class(self) -> String {
        match self {
            Self::Grid => "grid".to_owned(),
            Self::Reference => "ref".to_owned(),
            Self::Whisker => "whisker".to_owned(),
            Self::Label => "label".to_owned(),
            Self::Line(method) => format!("l{}", method % PENS),
            Self::Fill(method) => format!("f{}", method % PENS),
            Self::Tint(method) => format!("t{}", method % PENS),
        }
    }

    /// The pen of a colour that plotters wrote.
    fn of(colour: &str) -> Option<Self> {
        let byte = |at: usize| u8::from_str_radix(colour.get(at..at + 2)?, 16).ok();
        let method = usize::from(byte(2)?);
        Some(match byte(0)? {
            0 => Self::Grid,
            1 => Self::Reference,
            2 => Self::Whisker,
            3 => Self::Label,
            4 => Self::Line(method),
            5 => Self::Fill(method),
            _ => Self::Tint(method),
        })
    }
}

/// What is drawn, in the values of the axes.
pub(crate) enum Mark {
    /// From point to point.
    Line(Pen, Vec<(f64, f64)>),
    /// From corner to corner.
    Bar(Pen, (f64, f64), (f64, f64)),
    /// A method's own marker.
    Dot(usize, (f64, f64)),
    /// Text that begins a little to the right of there.
    Text(String, (f64, f64)),
}

/// Pixels around what is drawn.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Room {
    pub(crate) above: u32,
    pub(crate) left: u32,
    pub(crate) below: u32,
    pub(crate) right: u32,
}

/// A chart with two axes.
pub(crate) struct Chart {
    /// What it shows, for those who do not see it.
    pub(crate) label: String,
    /// Width and height in pixels.
    pub(crate) size: (u32, u32),
    /// For labels, beside the axes.
    pub(crate) room: Room,
    /// Left to right.
    pub(crate) x: Axis,
    /// Bottom to top.
    pub(crate) y: Axis,
    /// In the order in which they are drawn.
    pub(crate) marks: Vec<Mark>,
}

type Context<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<Axis, Axis>>;
type Undrawn = DrawingAreaErrorKind<std::io::Error>;

impl Chart {
    /// The chart as an image inside the page.
    pub(crate) fn render(&self) -> Markup {
        let (width, height) = (self.size.0 * SCALE, self.size.1 * SCALE);
        match self.draw() {
            Ok(drawing) => html! {
                svg viewBox=(format!("0 0 {width} {height}")) role="img" aria-label=(plain(&self.label)) {
                    // plotters has escaped it: all text in it has gone through its SVG back end, and `plain`.
                    (PreEscaped(with_classes(&drawing)))
                }
            },
            Err(problem) => html! {
                p.none { "This chart could not be drawn: " (problem.to_string()) "." }
            },
        }
    }

    fn draw(&self) -> Result<String, Undrawn> {
        let mut svg = String::new();
        let size = (self.size.0 * SCALE, self.size.1 * SCALE);
        {
            let root = SVGBackend::with_string(&mut svg, size).into_drawing_area();
            let mut context = ChartBuilder::on(&root)
                .margin_top(self.room.above * SCALE)
                .margin_right(self.room.right * SCALE)
                .x_label_area_size(self.room.below * SCALE)
                .y_label_area_size(self.room.left * SCALE)
                .build_cartesian_2d(self.x.clone(), self.y.clone())?;
            self.mesh(&mut context)?;
            for mark in &self.marks {
                self.mark(&mut context, mark)?;
            }
            root.present()?;
        }
        Ok(svg)
    }

    fn mesh(&self, context: &mut Context<'_, '_>) -> Result<(), Undrawn> {
        let colour = Pen::Label.colour();
        let text = TextStyle::from(("sans-serif", 12 * SCALE)).color(&colour);
        context
            .configure_mesh()
            .label_style(text)
            .axis_style(Pen::Grid.colour())
            .bold_line_style(Pen::Grid.colour())
            .light_line_style(TRANSPARENT)
            .set_all_tick_mark_size(5 * SCALE)
            .draw()
    }

    fn mark(&self, context: &mut Context<'_, '_>, mark: &Mark) -> Result<(), Undrawn> {
        match mark {
            Mark::Line(pen, points) => {
                context.draw_series(LineSeries::new(points.iter().copied(), pen.colour()))?;
            }
            Mark::Bar(pen, from, to) => {
                let bar = Rectangle::new([*from, *to], pen.colour().filled());
                context.draw_series([bar])?;
            }
            Mark::Dot(method, point) => {
                let shape = marker(*method, SCALE).to_vec();
                let dot = EmptyElement::at(*point)
                    + Polygon::new(shape, Pen::Fill(*method).colour().filled());
                context.draw_series([dot])?;
            }
            Mark::Text(text, point) => {
                let colour = Pen::Label.colour();
                let style = TextStyle::from(("sans-serif", 12 * SCALE))
                    .color(&colour)
                    .pos(Pos::new(HPos::Left, VPos::Center));
                let beside = (i32::try_from(6 * SCALE).unwrap_or_default(), 0);
                let text = EmptyElement::at(*point) + Text::new(plain(text), beside, style);
                context.draw_series([text])?;
            }
        }
        Ok(())
    }
}

/// The marker of a method: its corners around the middle, `scale` units for each pixel.
pub(crate) fn marker(method: usize, scale: u32) -> Vec<(i32, i32)> {
    // In halves of a pixel.
    let corners: &[(i32, i32)] = match method % PENS {
        0 => &[(-6, -6), (6, -6), (6, 6), (-6, 6)],
        1 => &[(0, -9), (8, 6), (-8, 6)],
        2 => &[
            (-8, -3),
            (-3, -8),
            (3, -8),
            (8, -3),
            (8, 3),
            (3, 8),
            (-3, 8),
            (-8, 3),
        ],
        3 => &[(0, -9), (9, 0), (0, 9), (-9, 0)],
        4 => &[(0, 9), (8, -6), (-8, -6)],
        5 => &[
            (-3, -8),
            (3, -8),
            (3, -3),
            (8, -3),
            (8, 3),
            (3, 3),
            (3, 8),
            (-3, 8),
            (-3, 3),
            (-8, 3),
            (-8, -3),
            (-3, -3),
        ],
        6 => &[(-8, -4), (8, -4), (8, 4), (-8, 4)],
        _ => &[(-4, -8), (4, -8), (4, 8), (-4, 8)],
    };
    let scale = i32::try_from(scale).unwrap_or(1);
    corners
        .iter()
        .map(|(x, y)| (x * scale / 2, y * scale / 2))
        .collect()
}

/// Text without what is no text: control characters, which plotters would pass on, and marks that turn its direction.
pub(crate) fn plain(text: &str) -> String {
    let turns = |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars()
        .map(|c| if c.is_control() || turns(c) { ' ' } else { c })
        .collect()
}

/// What plotters drew, without the frame that it puts around, and with classes in place of colours.
///
/// It escapes quotes in text, so that an attribute is never mistaken for one.
fn with_classes(svg: &str) -> String {
    let mut text = String::with_capacity(svg.len());
    let inside = svg.split_once('\n').map_or("", |(_, rest)| rest);
    let inside = inside.trim_end().trim_end_matches("</svg>");
    for line in inside.lines() {
        let mut parts = line.split('"');
        // Names and values of attributes take turns.
        while let Some(name) = parts.next() {
            let Some(value) = parts.next() else {
                text.push_str(name);
                break;
            };
            let name = name.trim_end_matches('=');
            let attribute = name.rsplit(' ').next().unwrap_or_default();
            let before = name.strip_suffix(attribute).unwrap_or_default();
            let pen = value.strip_prefix('#').and_then(Pen::of);
            match (attribute, pen) {
                ("fill" | "stroke", Some(pen)) => {
                    text.push_str(&format!("{before}class=\"{}\"", pen.class()));
                }
                // The style sheet says these.
                (
                    "opacity" | "stroke-width" | "font-family" | "font-size" | "fill" | "stroke",
                    _,
                ) => {
                    text.push_str(before.trim_end());
                }
                _ => text.push_str(&format!("{before}{attribute}=\"{}\"", value.trim_end())),
            }
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(text: &str) -> Chart {
        Chart {
            label: text.to_owned(),
            size: (300, 100),
            room: Room {
                above: 4,
                left: 40,
                below: 20,
                right: 10,
            },
            x: Axis::linear(0.0, 10.0, vec![(5.0, text.to_owned())]),
            y: Axis::log(1.0, 100.0, vec![(10.0, "ten".to_owned())]),
            marks: vec![
                Mark::Line(Pen::Line(3), vec![(1.0, 2.0), (9.0, 90.0)]),
                Mark::Dot(1, (5.0, 10.0)),
                Mark::Bar(Pen::Tint(2), (0.0, 1.0), (4.0, 3.0)),
                Mark::Text(text.to_owned(), (2.0, 2.0)),
            ],
        }
    }

    #[test]
    fn every_colour_becomes_a_class_and_nothing_is_named() {
        let svg = chart("plain").render().into_string();
        for class in ["grid", "label", "l3", "f1", "t2"] {
            assert!(
                svg.contains(&format!("class=\"{class}\"")),
                "{class}: {svg}"
            );
        }
        for left in ["#0", "fill=\"", "stroke=\"", " id=", "style=", "xmlns"] {
            assert!(!svg.contains(left), "{left}: {svg}");
        }
    }

    #[test]
    fn hostile_text_stays_text_in_a_drawing() {
        let hostile = "</text><script>alert(1)</script> fill=\"#050000\" '&\u{0}\u{1b}\u{202e}";
        let svg = chart(hostile).render().into_string();
        assert!(!svg.contains("<script"), "{svg}");
        assert!(svg.contains("&lt;script&gt;"), "{svg}");
        assert!(svg.contains("fill=&quot;#050000&quot;"), "{svg}");
        assert!(!svg.contains(['\u{0}', '\u{1b}', '\u{202e}']), "{svg}");
    }
}
