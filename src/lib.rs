//! millstream: what touches the world. `millstream-core` decides, these modules act.
//!
//! Each module uses only those listed above it; siblings never import each other.
#![deny(unsafe_code)]

pub mod clock;
pub mod fault;

pub mod kafka;
pub mod postgres;
pub mod state;

pub mod generate;
pub mod runtime;

pub mod http;

pub mod cli;
