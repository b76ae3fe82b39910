//! Host → virtual host in a constant number of hash lookups.

use hashbrown::HashTable;

use crate::strings::Str;

/// The domains of all virtual hosts of one route configuration.
#[derive(Debug, Default)]
pub(crate) struct Domains {
    exact: HashTable<Entry>,
    /// `*.example.com`, stored without the star.
    suffixes: Wildcards,
    /// `example.*`, stored without the star.
    prefixes: Wildcards,
    /// `*`.
    any: Option<u32>,
}

#[derive(Debug)]
struct Entry {
    text: Str,
    virtual_host: u32,
}

#[derive(Debug, Default)]
struct Wildcards {
    table: HashTable<Entry>,
    /// The lengths that occur, longest first: one lookup each.
    lens: Vec<usize>,
}

/// Why a domain cannot be added.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum DomainError {
    /// Another virtual host, or the same one, has it already.
    Duplicate,
}

impl Domains {
    /// Adds a domain in Envoy's notation.
    pub(crate) fn insert(
        &mut self,
        domain: Str,
        stripped: Str,
        virtual_host: u32,
    ) -> Result<(), DomainError> {
        if domain == "*" {
            return match self.any.replace(virtual_host) {
                None => Ok(()),
                Some(_) => Err(DomainError::Duplicate),
            };
        }
        let entry = Entry { text: stripped, virtual_host };
        if domain.starts_with('*') {
            self.suffixes.insert(entry)
        } else if domain.ends_with('*') {
            self.prefixes.insert(entry)
        } else {
            insert(&mut self.exact, entry)
        }
    }

    /// The text [`Domains::insert`] wants as `stripped`: the domain without its star.
    pub(crate) fn strip(domain: &str) -> &str {
        domain.strip_prefix('*').or_else(|| domain.strip_suffix('*')).unwrap_or(domain)
    }

    /// The virtual host for `host`.
    pub(crate) fn find(&self, host: &[u8]) -> Option<u32> {
        if !self.exact.is_empty()
            && let Some(found) = find(&self.exact, host)
        {
            return Some(found);
        }
        // A star stands for at least one character: `*.a` does not match `.a`.
        let suffix = |len: usize| find(&self.suffixes.table, &host[host.len() - len..]);
        let prefix = |len: usize| find(&self.prefixes.table, &host[..len]);
        let shorter = |lens: &&usize| **lens < host.len();
        let by_suffix = self.suffixes.lens.iter().filter(shorter).find_map(|len| suffix(*len));
        by_suffix
            .or_else(|| self.prefixes.lens.iter().filter(shorter).find_map(|len| prefix(*len)))
            .or(self.any)
    }
}

impl Wildcards {
    fn insert(&mut self, entry: Entry) -> Result<(), DomainError> {
        let len = entry.text.len();
        insert(&mut self.table, entry)?;
        if let Err(at) = self.lens.binary_search_by(|other| len.cmp(other)) {
            self.lens.insert(at, len);
        }
        Ok(())
    }
}

fn insert(table: &mut HashTable<Entry>, entry: Entry) -> Result<(), DomainError> {
    if find(table, entry.text.as_bytes()).is_some() {
        return Err(DomainError::Duplicate);
    }
    let hash = hash_ignoring_case(entry.text.as_bytes());
    table.insert_unique(hash, entry, |entry| hash_ignoring_case(entry.text.as_bytes()));
    Ok(())
}

fn find(table: &HashTable<Entry>, host: &[u8]) -> Option<u32> {
    let entry =
        table.find(hash_ignoring_case(host), |entry| entry.text.as_bytes().eq_ignore_ascii_case(host))?;
    Some(entry.virtual_host)
}

/// FNV-1a over lower-cased bytes. Peers choose what is looked up, never what is stored, so collisions cannot be
/// forced upon the table.
fn hash_ignoring_case(text: &[u8]) -> u64 {
    let mut hash = super::path_index::FNV_OFFSET;
    for byte in text {
        hash = super::path_index::fnv_step(hash, byte.to_ascii_lowercase());
    }
    super::path_index::fnv_finish(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domains(list: &[&str]) -> Domains {
        let mut domains = Domains::default();
        for (index, domain) in list.iter().enumerate() {
            domains.insert(Str::new(domain), Str::new(Domains::strip(domain)), index as u32).unwrap();
        }
        domains
    }

    #[test]
    fn exact_beats_suffix_beats_prefix_beats_any() {
        let table = domains(&["*", "www.*", "*.example.com", "www.example.com"]);
        assert_eq!(table.find(b"www.example.com"), Some(3));
        assert_eq!(table.find(b"api.example.com"), Some(2));
        assert_eq!(table.find(b"www.example.org"), Some(1));
        assert_eq!(table.find(b"other"), Some(0));
    }

    #[test]
    fn the_longest_wildcard_wins() {
        let table = domains(&["*.com", "*.a.com", "*-b.a.com", "a*", "ab*"]);
        assert_eq!(table.find(b"x.com"), Some(0));
        assert_eq!(table.find(b"x.a.com"), Some(1));
        assert_eq!(table.find(b"x-b.a.com"), Some(2));
        assert_eq!(table.find(b"abc"), Some(4));
        assert_eq!(table.find(b"ac"), Some(3));
    }

    #[test]
    fn a_star_stands_for_at_least_one_character() {
        let table = domains(&["*.a.com", "www.*"]);
        assert_eq!(table.find(b".a.com"), None);
        assert_eq!(table.find(b"www."), None);
    }

    #[test]
    fn case_does_not_matter() {
        let table = domains(&["Example.COM", "*.Example.Org"]);
        assert_eq!(table.find(b"eXample.com"), Some(0));
        assert_eq!(table.find(b"A.EXAMPLE.ORG"), Some(1));
    }

    #[test]
    fn a_domain_belongs_to_one_virtual_host() {
        let mut table = domains(&["a", "*.b", "*"]);
        for again in ["A", "*.B", "*"] {
            let stripped = Str::new(Domains::strip(again));
            assert_eq!(table.insert(Str::new(again), stripped, 9), Err(DomainError::Duplicate));
        }
    }
}
