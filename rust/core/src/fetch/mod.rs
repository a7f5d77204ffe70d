//! Scheduling the fetches of an image that is used while it is downloaded.
//!
//! Nothing is fetched here. The caller asks for the next fetch, carries it out, and reports the
//! outcome. It also passes the time, since the core has no clock.

mod policy;
mod scheduler;
mod table;

pub use policy::{Policy, Request};
pub use scheduler::{Fetch, Limits, Next, Purpose, Scheduler, What};
pub use table::Table;
