//! What of the files that servers share is still named, so that removing one version does not look at all others.

use std::collections::{BTreeMap, BTreeSet};

use metamcp_core::Digest;

/// How many versions name each bundle, and how many bundles each module.
#[derive(Debug, Default)]
pub(super) struct Named {
    bundles: BTreeMap<Digest, usize>,
    modules: BTreeMap<String, usize>,
    /// Set where something could not be read, which may name anything.
    keeps_all: bool,
}

impl Named {
    /// A version names a bundle, which has these modules.
    pub(super) fn add(&mut self, bundle: Digest, modules: &BTreeSet<String>) {
        let versions = self.bundles.entry(bundle).or_default();
        *versions += 1;
        if *versions == 1 {
            for module in modules {
                *self.modules.entry(module.clone()).or_default() += 1;
            }
        }
    }

    /// Something could not be read: from now on nothing counts as unnamed.
    pub(super) fn keep_all(&mut self) {
        self.keeps_all = true;
    }

    /// Whether a version names a bundle.
    pub(super) fn has(&self, bundle: &Digest) -> bool {
        self.bundles.contains_key(bundle)
    }

    /// Whether nothing names a bundle of this name.
    pub(super) fn is_unnamed(&self, bundle: &str) -> bool {
        !self.keeps_all && !bundle.parse().is_ok_and(|digest| self.has(&digest))
    }

    /// Whether nothing names a module.
    pub(super) fn is_unnamed_module(&self, module: &str) -> bool {
        !self.keeps_all && !self.modules.contains_key(module)
    }

    /// A version is gone that named a bundle; says whether nothing names it now.
    pub(super) fn release(&mut self, bundle: &Digest) -> bool {
        release(&mut self.bundles, bundle) && !self.keeps_all
    }

    /// A bundle is gone that had a module; says whether nothing names it now.
    pub(super) fn release_module(&mut self, module: &String) -> bool {
        release(&mut self.modules, module) && !self.keeps_all
    }
}

fn release<K: Ord>(counts: &mut BTreeMap<K, usize>, key: &K) -> bool {
    let Some(count) = counts.get_mut(key) else { return false };
    *count -= 1;
    let is_last = *count == 0;
    if is_last {
        counts.remove(key);
    }
    is_last
}
