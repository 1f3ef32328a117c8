//! The queue, event by event.
