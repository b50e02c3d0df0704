//! Bytes to rows and back: records, set values, state.
//!
//! Owns the strict reading of JSON records, the splicing of enriched ones, and the formats of local state. Must never
//! judge more than a field's own type, nor know an aggregate. Record bytes come in from `verdict`, rows go out; state
//! bytes come from and go to `engine`. Tested beside each file, with the fast path proven equal to the strict one.

mod json;
mod state;

pub use json::write_json;
pub use state::{
    META_KEY, StateCodecError, TaskMeta, decode_group_key, decode_meta, encode_group_key, encode_meta, window_key,
    window_prefix,
};
