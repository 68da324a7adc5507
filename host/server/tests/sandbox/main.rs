//! Components that do what they should not: only they fail, and the next call works.

mod back;
mod front;
mod guests;
mod load;
mod setup;
