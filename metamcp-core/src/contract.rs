//! What every backend does, as tests: one function for each promise of a trait (feature `contract`).
//!
//! A macro for each trait makes every function a `#[tokio::test]` of its own (the test crate needs tokio with
//! `macros` and `rt`), so that a failure carries the name of the promise. The macros take an expression that
//! gives a [`Subject`], or a future of one: a fresh backend for each test, with whatever has to outlive it.
//!
//! ```text
//! mod memory {
//!     metamcp_core::registry_contract!(super::memory());
//! }
//! mod live {
//!     metamcp_core::registry_contract!(ignore = "needs an account", super::live());
//! }
//!
//! fn memory() -> Subject<dyn Registry> {
//!     Subject::new(Arc::new(MemoryRegistry::new()))
//! }
//! ```
//!
//! Backends may be shared with others: names are random, nothing foreign is touched, and what a test made is
//! removed where that is more than rows of its own name.

pub mod builder;
mod definitions;
pub mod kv_cache;
pub mod publisher;
pub mod registry;

pub use definitions::{definitions, hostile_text};

use std::any::Any;
use std::fmt;
use std::future::{IntoFuture, Ready, ready};
use std::ops::Deref;
use std::sync::Arc;

/// A backend under test, and what must live as long as it does.
pub struct Subject<T: ?Sized> {
    backend: Arc<T>,
    keeps: Option<Box<dyn Any + Send + Sync>>,
}

impl<T: ?Sized> Subject<T> {
    /// A backend that needs nothing beside it.
    pub fn new(backend: Arc<T>) -> Self {
        Self { backend, keeps: None }
    }

    /// Keeps something until the test is over: a folder, a server.
    #[must_use]
    pub fn keeping(mut self, guard: impl Any + Send + Sync) -> Self {
        self.keeps = Some(Box::new(guard));
        self
    }
}

impl<T: ?Sized> Deref for Subject<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.backend
    }
}

/// A subject is its own future, so that the macros take both.
impl<T: ?Sized> IntoFuture for Subject<T> {
    type Output = Self;
    type IntoFuture = Ready<Self>;

    fn into_future(self) -> Ready<Self> {
        ready(self)
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Subject<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keeps = self.keeps.is_some();
        f.debug_struct("Subject").field("backend", &self.backend).field("keeps", &keeps).finish()
    }
}

/// Makes tests of the promises named; the public macros hold the lists.
#[doc(hidden)]
#[macro_export]
macro_rules! contract_cases {
    ($suite:ident [in_turn] ($subject:expr) () $($case:ident)*) => {
        $($crate::contract::$suite::$case($subject).await;)*
    };
    ($suite:ident $attributes:tt $make:tt $more:tt $($case:ident)*) => {
        $($crate::contract_case!($suite $attributes $make $more $case);)*
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! contract_case {
    ($suite:ident [$($attribute:meta)?] ($make:expr) ($($more:expr),*) $case:ident) => {
        #[::tokio::test]
        $(#[$attribute])?
        async fn $case() {
            let subject = $make.await;
            $crate::contract::$suite::$case(&*subject, $($more),*).await;
        }
    };
}

/// Tests a [`Registry`](crate::Registry) against every promise of the trait. `in_turn, registry` runs all of it on one
/// `&dyn Registry` within an async test, where making one takes long.
#[macro_export]
macro_rules! registry_contract {
    (in_turn, $registry:expr) => { $crate::registry_contract!(@ [in_turn] ($registry)); };
    (ignore = $reason:literal, $make:expr) => { $crate::registry_contract!(@ [ignore = $reason] ($make)); };
    (@ $attributes:tt $make:tt) => {
        $crate::contract_cases! { registry $attributes $make ()
            a_new_server_reads_back_as_written
            an_absent_server_is_not_found
            another_server_of_the_same_name_already_exists
            an_update_is_the_next_revision
            a_stale_revision_is_a_conflict_that_names_both
            putting_the_same_twice_changes_nothing
            of_racing_creators_one_wins
            of_racing_writers_one_wins_and_nothing_is_mixed
            the_container_of_a_server_is_noted_beside_its_definition
            removing_a_server_removes_what_belongs_to_it
            hostile_text_reads_back_exactly
            numbers_read_back_exactly
            a_thousand_tools_read_back_in_order
            pages_list_every_server_once_in_order_of_names
            a_page_out_of_bounds_is_refused
            filters_by_status_and_age
            names_that_begin_alike_stay_apart
            tools_of_all_servers_are_listed_in_order
            versions_read_back_newest_first
            putting_a_version_twice_keeps_one
            a_deployment_is_recorded_step_by_step
            finishing_a_deployment_sets_what_is_live
            an_older_lease_may_not_write
            a_lease_that_is_over_may_not_write
            a_deployment_of_an_unknown_server_is_not_found
            a_held_lease_refuses_others_and_names_its_holder
            fencing_numbers_only_grow
            only_a_held_lease_is_renewed
            releasing_a_lost_lease_leaves_the_new_holder_alone
            of_racing_acquirers_one_wins
            leasing_a_server_reads_it
            leases_out_of_bounds_are_refused
            a_server_takes_its_lease_along
            connections_are_listed_by_name
            a_connection_name_belongs_to_one_connection
            api_keys_are_found_by_hash
            audit_entries_come_newest_first
        }
    };
    ($make:expr) => { $crate::registry_contract!(@ [] ($make)); };
}

/// Tests a [`KvCache`](crate::KvCache) against every promise of the trait.
#[macro_export]
macro_rules! kv_cache_contract {
    (ignore = $reason:literal, $make:expr) => { $crate::kv_cache_contract!(@ [ignore = $reason] ($make)); };
    (@ $attributes:tt $make:tt) => {
        $crate::contract_cases! { kv_cache $attributes $make ()
            an_absent_key_has_no_value
            a_value_reads_back
            an_overwritten_key_has_one_of_both_values
            deleting_an_absent_key_succeeds
            a_deleted_key_is_not_listed
            a_deleted_prefix_leaves_the_others
            prefixes_list_in_byte_order
            wildcards_in_keys_are_plain_text
            keys_out_of_bounds_are_refused
            values_out_of_bounds_are_refused
            the_largest_key_and_an_empty_value_are_kept
        }
    };
    ($make:expr) => { $crate::kv_cache_contract!(@ [] ($make)); };
}

/// Tests a [`Publisher`](crate::Publisher) against every promise of the trait that needs no client.
///
/// The second expression is a `fn(&ServerName, u32) -> Artifact`: a small artifact that starts on the target,
/// another one for each number.
#[macro_export]
macro_rules! publisher_contract {
    (ignore = $reason:literal, $make:expr, $artifact:expr) => {
        $crate::publisher_contract!(@ [ignore = $reason] ($make) ($artifact));
    };
    (@ $attributes:tt $make:tt $artifact:tt) => {
        $crate::contract_cases! { publisher $attributes $make $artifact
            a_staged_version_is_not_live
            activating_a_version_makes_it_the_live_one
            activating_twice_is_the_same_as_once
            the_older_version_can_be_activated_again
            an_unknown_version_is_not_found
            the_live_version_cannot_be_discarded
            a_discarded_version_is_gone
            versions_are_listed_newest_first
            an_unknown_server_has_nothing
            servers_are_listed_by_name
            unpublishing_twice_is_the_same_as_once
            secrets_are_listed_by_name_and_never_shown
            a_name_belongs_to_one_server
        }
    };
    ($make:expr, $artifact:expr) => { $crate::publisher_contract!(@ [] ($make) ($artifact)); };
}

/// Tests a [`Builder`](crate::Builder) against every promise of the trait.
///
/// The second expression is a `fn(u32) -> (SourceTree, WorkerSettings)`: a small project that builds, another one
/// for each number. The third is the builder's
/// [`BuilderCapabilities`](crate::contract::builder::BuilderCapabilities).
#[macro_export]
macro_rules! builder_contract {
    (ignore = $reason:literal, $make:expr, $project:expr, $capabilities:expr) => {
        $crate::builder_contract!(@ [ignore = $reason] ($make) ($project, $capabilities));
    };
    (@ $attributes:tt $make:tt $more:tt) => {
        $crate::contract_cases! { builder $attributes $make $more
            the_same_tree_gives_the_same_artifact
            another_tree_gives_another_artifact
            the_main_module_is_one_of_the_modules
            settings_reach_the_artifact
            a_project_without_code_fails_to_build
            dependencies_are_installed_or_unsupported
            environments_are_made_or_unsupported
            closing_twice_is_the_same_as_once
        }
    };
    ($make:expr, $project:expr, $capabilities:expr) => {
        $crate::builder_contract!(@ [] ($make) ($project, $capabilities));
    };
}
