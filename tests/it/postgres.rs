//! The PostgreSQL side of the commit protocol on a real server, one database per test.
//!
//! `DATABASE_URL` names a login that may create databases and roles.

#[cfg(feature = "fault")]
mod deliberate;
mod epochs;
mod fencing;
pub mod fixture;
mod records;
mod schema;
mod sessions;
mod sketches;
mod sweep;
mod values;
mod views;
