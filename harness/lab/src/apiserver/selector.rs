//! Which objects a list or a watch is about: label selectors and field selectors.

mod field;
mod label;

pub(crate) use field::FieldSelector;
pub(crate) use label::LabelSelector;
