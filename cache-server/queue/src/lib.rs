//! The farm's queue: which worker runs what, and when. A state machine without clock, network or disk.
#![forbid(unsafe_code)]
