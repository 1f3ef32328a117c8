//! The farm's queue as clients and workers meet it.

mod farm;
mod run;
