//! What every store must do, as tests: one template for all of them.
//!
//! `blob_store_tests!(name, make)` makes a module of tests; `make` is evaluated in each of them
//! and is a future of a pair: what must live as long as the store (a directory, a server), and the
//! store as an `Arc`. [`action_cache_tests`] does the same for results, and
//! [`exact_action_cache_tests`] adds what a cache that can be asked over plain REAPI alone cannot
//! promise: removal, and only one winner among many.
//!
//! [`lease_store_tests`] and [`possession_tests`] do it for leases and for possession.
//!
//! [`blob_index_tests`] does it for indices of blobs.
//!
//! Each case is a function of its own, so that a failure names what is wrong. Where the footing of a
//! store takes long to come up, `together` before the name makes one test of all cases, which run at
//! the same time.

pub mod actions;
pub mod blobs;
#[cfg(feature = "farm")]
pub mod index;
pub mod leases;
pub mod possession;

use std::pin::Pin;

pub use crate::{
    action_cache_tests, blob_index_tests, blob_store_tests, exact_action_cache_tests,
    lease_store_tests, possession_tests,
};

/// Runs cases at the same time.
#[doc(hidden)]
pub async fn together(cases: Vec<Pin<Box<dyn Future<Output = ()> + Send>>>) {
    futures::future::join_all(cases).await;
}

/// Makes one test of each named case.
#[doc(hidden)]
#[macro_export]
macro_rules! conformance_cases {
    ($name:ident, $make:expr, $cases:ident, [$($case:ident),* $(,)?]) => {
        mod $name {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    let (_guard, store) = $make.await;
                    $crate::conformance::$cases::$case(store).await;
                }
            )*
        }
    };
}

/// Makes one test of all of the named cases.
#[doc(hidden)]
#[macro_export]
macro_rules! conformance_together {
    ($name:ident, $make:expr, $cases:ident, [$($case:ident),* $(,)?]) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            $crate::conformance::together(vec![$(
                Box::pin(async {
                    let (_guard, store) = $make.await;
                    $crate::conformance::$cases::$case(store).await;
                }),
            )*])
            .await;
        }
    };
}

/// A module of tests of a [`BlobStore`](crate::BlobStore).
#[macro_export]
macro_rules! blob_store_tests {
    (together $name:ident, $make:expr) => {
        $crate::blob_store_tests!(@conformance_together $name, $make);
    };
    ($name:ident, $make:expr) => {
        $crate::blob_store_tests!(@conformance_cases $name, $make);
    };
    (@$how:ident $name:ident, $make:expr) => {
        $crate::$how!(
            $name,
            $make,
            blobs,
            [
                nothing_is_there_at_first,
                what_is_written_is_read,
                parts_are_what_was_asked_for,
                the_empty_blob_is_always_there,
                wrong_bytes_are_refused_and_not_kept,
                a_broken_stream_leaves_nothing,
                dropped_writes_leave_nothing,
                dropped_reads_do_no_harm,
                writing_again_is_no_error,
                a_blob_is_named_by_hash_size_and_function,
                many_write_the_same_at_once,
                many_write_different_ones_at_once,
                a_large_blob_streams,
                many_small_ones_keep_their_order,
            ]
        );
    };
}

/// A module of tests of an [`ActionCache`](crate::ActionCache).
#[macro_export]
macro_rules! action_cache_tests {
    (together $name:ident, $make:expr) => {
        $crate::action_cache_tests!(@conformance_together $name, $make);
    };
    ($name:ident, $make:expr) => {
        $crate::action_cache_tests!(@conformance_cases $name, $make);
    };
    (@$how:ident $name:ident, $make:expr) => {
        $crate::$how!(
            $name,
            $make,
            actions,
            [
                there_is_no_result_at_first,
                what_is_put_is_given,
                answers_are_in_the_order_of_the_questions,
                a_result_is_replaced_or_stays,
                instances_and_functions_are_separate,
                a_large_result_is_kept,
            ]
        );
    };
}

/// A module of tests of what plain REAPI cannot promise.
#[macro_export]
macro_rules! exact_action_cache_tests {
    (together $name:ident, $make:expr) => {
        $crate::exact_action_cache_tests!(@conformance_together $name, $make);
    };
    ($name:ident, $make:expr) => {
        $crate::exact_action_cache_tests!(@conformance_cases $name, $make);
    };
    (@$how:ident $name:ident, $make:expr) => {
        $crate::$how!(
            $name,
            $make,
            actions,
            [
                a_removed_result_is_gone,
                only_one_of_many_is_first,
                a_swap_needs_what_is_there,
                only_one_of_many_swaps,
            ]
        );
    };
}

/// A module of tests of a [`LeaseStore`](crate::LeaseStore) over results of its own.
#[macro_export]
macro_rules! lease_store_tests {
    (together $name:ident, $make:expr) => {
        $crate::lease_store_tests!(@conformance_together $name, $make);
    };
    ($name:ident, $make:expr) => {
        $crate::lease_store_tests!(@conformance_cases $name, $make);
    };
    (@$how:ident $name:ident, $make:expr) => {
        $crate::$how!(
            $name,
            $make,
            leases,
            [
                one_holds_a_key_at_a_time,
                a_lease_runs_out_unless_it_is_renewed,
                numbers_grow_with_every_grant,
                only_its_holder_renews_and_releases,
                who_watches_is_told,
                of_many_one_is_granted_it,
                keys_of_instances_are_separate,
                the_first_commit_stays,
                a_late_commit_is_refused,
                a_commit_without_rival_after_its_end_is_taken,
                a_result_with_a_hole_is_replaced,
            ]
        );
    };
}

/// A module of tests of a [`Possession`](crate::Possession) with the blobs that it speaks of: an
/// `Arc` of something that is a [`BlobStore`](crate::BlobStore) as well.
#[macro_export]
macro_rules! possession_tests {
    (together $name:ident, $make:expr) => {
        $crate::possession_tests!(@conformance_together $name, $make);
    };
    ($name:ident, $make:expr) => {
        $crate::possession_tests!(@conformance_cases $name, $make);
    };
    (@$how:ident $name:ident, $make:expr) => {
        $crate::$how!(
            $name,
            $make,
            possession,
            [
                nobody_holds_anything_at_first,
                who_shows_a_blob_holds_it,
                bytes_are_counted_once,
                many_note_at_once,
            ]
        );
    };
}

/// A module of tests of a [`BlobIndex`](crate::objects::index::BlobIndex).
#[macro_export]
macro_rules! blob_index_tests {
    (together $name:ident, $make:expr) => {
        $crate::blob_index_tests!(@conformance_together $name, $make);
    };
    ($name:ident, $make:expr) => {
        $crate::blob_index_tests!(@conformance_cases $name, $make);
    };
    (@$how:ident $name:ident, $make:expr) => {
        $crate::$how!(
            $name,
            $make,
            index,
            [
                nothing_is_known_at_first,
                what_is_added_is_found,
                a_blob_moves_to_where_it_is_added_last,
                only_what_lies_there_is_forgotten,
                the_longest_unused_come_first,
                a_condemned_object_has_no_blobs,
                what_is_done_twice_counts_once,
                many_add_at_once,
            ]
        );
    };
}
