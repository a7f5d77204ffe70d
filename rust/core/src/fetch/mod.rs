//! Reading a layer whose bytes have not arrived: which spans to fetch next, and who waits for them.
//!
//! Nothing is fetched here. A caller asks what to fetch, fetches it as it likes, and says what
//! became of it; time is a number that the caller passes.

mod scheduler;
mod table;

pub use scheduler::{Fetch, Limits, Next, Purpose, Scheduler, What};
pub use table::Table;
