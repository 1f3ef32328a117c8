//! Blobs in an object store: S3 and its like.
//!
//! | module | subject |
//! |---|---|
//! | [`index`] | the trait of what knows where blobs lie |

pub mod index;
