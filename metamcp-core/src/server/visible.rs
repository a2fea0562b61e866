//! The servers that a caller may see, page by page.

use super::access::Access;
use crate::name::ServerName;
use crate::registry::{ListOptions, Page, ServerSummary};
use crate::{MetaMcp, Result};

/// Servers that are looked through at once for those that a limited caller may see.
const LOOKED_AT: u32 = 1_000;

/// A page of the servers that the caller may see. Its end is one of these, too: a cursor that named another would tell
/// that there is one.
pub(super) async fn page(meta: &MetaMcp, access: &Access, options: &ListOptions) -> Result<Page<ServerSummary>> {
    if !access.is_limited() {
        return meta.servers().list(options).await;
    }
    options.check()?;
    let wanted = options.limit as usize;
    let mut items: Vec<ServerSummary> = Vec::new();
    let mut looked = ListOptions { limit: LOOKED_AT, ..options.clone() };
    // One more than is wanted says whether there is a next page.
    while items.len() <= wanted {
        let page = meta.servers().list(&looked).await?;
        items.extend(page.items.into_iter().filter(|server| access.may_use(&server.name)));
        match page.next {
            Some(next) => looked.after = Some(next),
            None => break,
        }
    }
    let has_more = items.len() > wanted;
    items.truncate(wanted);
    let next = items.last().filter(|_| has_more).map(|last| last.name.clone());
    Ok(Page { items, next })
}

/// The first names that begin so, at most `limit`, and how many there are.
pub(super) async fn names(meta: &MetaMcp, access: &Access, begun: &str, limit: usize) -> Result<(Vec<String>, usize)> {
    // What stands before the first of these: their beginning without its last letter.
    let before = begun.len().checked_sub(1).and_then(|end| begun.get(..end)?.parse::<ServerName>().ok());
    let mut options = ListOptions { limit: LOOKED_AT, after: before, ..ListOptions::default() };
    let (mut names, mut count) = (Vec::new(), 0);
    loop {
        let page = meta.servers().list(&options).await?;
        let is_past = page.items.last().is_some_and(|last| {
            let last = last.name.as_str();
            last > begun && !last.starts_with(begun)
        });
        let fitting = page.items.into_iter().map(|server| server.name);
        for name in fitting.filter(|name| name.as_str().starts_with(begun) && access.may_use(name)) {
            count += 1;
            if names.len() < limit {
                names.push(name.into());
            }
        }
        match page.next {
            Some(next) if !is_past => options.after = Some(next),
            _ => return Ok((names, count)),
        }
    }
}
