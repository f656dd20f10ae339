//! The store's contract: one set of tests, over every backend.
//!
//! Needs a PostgreSQL server: `eval "$(tools/databases)"` sees to one.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "in a test a panic is the finding"
)]

mod counts;
mod home;
mod opening;
mod outage;
mod records;
#[path = "../it/support/relay.rs"]
mod relay;
mod retention;
mod sqlite;
mod usage;
mod watching;

/// Each of these tests, over each backend.
macro_rules! contract {
    ($($file:ident: $($test:ident),+;)+) => {
        contract! { @on sqlite_file, file, $($file: $($test),+;)+ }
        contract! { @on postgres, postgres, $($file: $($test),+;)+ }
    };
    (@on $backend:ident, $make:ident, $($file:ident: $($test:ident),+;)+) => {
        mod $backend {
            use crate::home::Home;
            $(mod $file {
                use super::Home;
                $(
                    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                    async fn $test() {
                        crate::$file::$test(Home::$make().await).await;
                    }
                )+
            })+
        }
    };
}

contract! {
    records:
        a_record_is_kept_as_it_was_given,
        what_is_expected_is_held_to,
        a_deleted_record_is_gone,
        a_version_never_comes_back,
        handles_are_unique_within_their_kind,
        a_list_comes_in_pages,
        everything_is_handed_out_once,
        of_writers_at_once_one_wins,
        fifty_writers_all_get_through,
        who_follows_the_revision_misses_nothing,
        many_are_written_at_once_or_none,
        what_was_checked_against_something_else_is_not_written,
        changes_are_told_latest_first,
        notes_are_kept;
    counts:
        what_is_spent_adds_up,
        a_batch_sent_again_counts_once,
        batches_of_many_nodes_at_once_all_count,
        reservations_of_others_are_told,
        what_is_over_is_removed,
        amounts_beyond_all_bounds_stop_nothing;
    usage:
        usage_is_rolled_up,
        usage_is_grouped_and_filtered,
        months_begin_on_their_first_day,
        questions_are_bound;
    retention:
        old_entries_of_the_audit_go_oldest_first,
        old_usage_goes_hour_by_hour,
        a_counter_goes_only_with_its_record;
    watching:
        changes_of_another_are_noticed_within_a_second,
        counts_wake_nobody;
    opening:
        a_store_is_found_again,
        a_newer_schema_is_refused,
        many_open_an_empty_one_at_once,
        a_killed_migration_leaves_nothing,
        a_hundred_thousand_records_are_loaded;
}
