//! Attributes: keys and values, owned ([`KeyValue`]) and borrowed ([`KeyValueRef`]).

mod convert;
mod key_value;
mod key_value_ref;
mod prepared;
mod tuple;

pub(crate) use key_value::last_of_each_key;
pub use key_value::{AnyValue, KeyValue};
pub use key_value_ref::{AnyValueRef, ArrayRef, KeyValueListRef, KeyValueRef};
pub(crate) use key_value_ref::{AsKeyValue, List};
pub use prepared::{Key, Name, prepare};
pub(crate) use prepared::{Keys, Wire};
pub use tuple::{Attributes, UseAttributes, VisitAttributes};
