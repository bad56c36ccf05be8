//! The closure of a program, found without running it: its interpreter and libraries, as the dynamic loader would
//! find them. Sources: elf(5), ld.so(8), the System V ABI, musl's manual.

pub mod asks;
pub mod cache;
pub mod closure;
pub mod facts;
pub mod search;

pub use asks::{Hint, What};
pub use closure::{Closure, Loader, Missing, Need};
pub use facts::{Content, Facts, read};
