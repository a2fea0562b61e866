//! What of the files that servers share is still named, so that removing one version does not look at all others.

use std::collections::{BTreeMap, BTreeSet};

use metamcp_core::Digest;

/// How many versions name each bundle, and how many bundles each module.
#[derive(Debug, Default)]
pub(super) struct Named {
    bundles: BTreeMap<Digest, usize>,
    modules: BTreeMap<String, usize>,
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

    /// A version is gone that named a bundle; says whether it was the last one.
    pub(super) fn release(&mut self, bundle: &Digest) -> bool {
        release(&mut self.bundles, bundle)
    }

    /// A bundle is gone that had a module; says whether it was the last one.
    pub(super) fn release_module(&mut self, module: &String) -> bool {
        release(&mut self.modules, module)
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
