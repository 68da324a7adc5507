//! From where media may be fetched.

use std::net::IpAddr;

use ipnet::IpNet;
use url::Host;

use super::address::is_public;

/// The hosts that the operator allows; none by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FetchPolicy {
    /// Whether any public host will do.
    any: bool,
    /// Names, and the ends of names with their dot in front.
    names: Vec<String>,
    suffixes: Vec<String>,
    /// Addresses, public or not.
    ranges: Vec<IpNet>,
}

/// Why a list of hosts is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{entry:?} is no host: write a name, *.NAME, *, an address or a range of addresses")]
pub struct PolicyError {
    entry: String,
}

impl FetchPolicy {
    /// Reads a list of:
    /// - `images.example.com`, a host;
    /// - `*.example.com`, the hosts below that name, but not the name itself;
    /// - `*`, every host that has public addresses only;
    /// - `192.0.2.7`, `2001:db8::7`, `10.0.0.0/8`: addresses, which may be those of URLs, and
    ///   those of allowed hosts although they are not public.
    ///
    /// Any port of an allowed host may be asked.
    ///
    /// # Errors
    /// [`PolicyError`], with the first entry that is none of these.
    pub fn from_list<S: AsRef<str>>(list: &[S]) -> Result<Self, PolicyError> {
        let mut policy = Self::default();
        for entry in list {
            let entry = entry.as_ref().trim();
            policy.add(entry).ok_or_else(|| PolicyError {
                entry: entry.to_owned(),
            })?;
        }
        Ok(policy)
    }

    fn add(&mut self, entry: &str) -> Option<()> {
        if entry == "*" {
            self.any = true;
        } else if let Some(name) = entry.strip_prefix("*.") {
            self.suffixes.push(format!(".{}", name_of(name)?));
        } else if let Ok(range) = entry.parse() {
            self.ranges.push(range);
        } else if let Ok(address) = entry.parse::<IpAddr>() {
            self.ranges.push(address.into());
        } else {
            self.names.push(name_of(entry)?);
        }
        Some(())
    }

    /// Whether nothing is allowed at all.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a URL may name this host. Its addresses are another question.
    pub(super) fn allows_host(&self, host: &Host<&str>) -> bool {
        match host {
            Host::Domain(name) => {
                let name = name.strip_suffix('.').unwrap_or(name);
                self.any
                    || self.names.iter().any(|known| known == name)
                    || self.suffixes.iter().any(|suffix| name.ends_with(suffix))
            }
            Host::Ipv4(address) => self.allows_literal((*address).into()),
            Host::Ipv6(address) => self.allows_literal((*address).into()),
        }
    }

    fn allows_literal(&self, address: IpAddr) -> bool {
        self.names_address(address) || (self.any && is_public(address))
    }

    /// Whether a connection may go to this address, once the host is allowed.
    pub(super) fn allows_address(&self, address: IpAddr) -> bool {
        is_public(address) || self.names_address(address)
    }

    fn names_address(&self, address: IpAddr) -> bool {
        self.ranges.iter().any(|range| range.contains(&address))
    }
}

/// A host's name as URLs have it: in lower case, in ASCII, without the dot at its end.
fn name_of(text: &str) -> Option<String> {
    let text = text.strip_suffix('.').unwrap_or(text);
    match Host::parse(text) {
        Ok(Host::Domain(name)) if !name.contains('*') => Some(name),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::*;

    fn policy(list: &str) -> FetchPolicy {
        FetchPolicy::from_list(&list.split(',').collect::<Vec<_>>()).unwrap()
    }

    fn check(list: &str, allowed: &[&str], refused: &[&str]) {
        let policy = policy(list);
        let allows = |host: &str| {
            let url = Url::parse(&format!("http://{host}/")).unwrap();
            policy.allows_host(&url.host().unwrap())
        };
        for host in allowed {
            assert!(allows(host), "{list} allows {host}");
        }
        for host in refused {
            assert!(!allows(host), "{list} refuses {host}");
        }
    }

    #[test]
    fn names_are_matched_whole_or_from_a_dot() {
        check(
            "images.example.com, Bücher.example.",
            &[
                "images.example.com",
                "IMAGES.example.COM.",
                "xn--bcher-kva.example",
            ],
            &[
                "example.com",
                "a.images.example.com",
                "images.example.com.evil.test",
            ],
        );
        check(
            "*.example.com",
            &["a.example.com", "a.b.example.com"],
            &[
                "example.com",
                "evilexample.com",
                "example.com.evil.test",
                "1.2.3.4",
            ],
        );
    }

    #[test]
    fn a_star_allows_public_addresses_only() {
        check(
            "*",
            &["anything.test", "localhost", "8.8.8.8", "[2600::1]"],
            &[
                "127.0.0.1",
                "2130706433",
                "0x7f.1",
                "[::1]",
                "[::ffff:8.8.8.8]",
                "10.1.2.3",
            ],
        );
        let policy = policy("*");
        assert!(!policy.allows_address("127.0.0.1".parse().unwrap()));
        assert!(policy.allows_address("8.8.8.8".parse().unwrap()));
    }

    #[test]
    fn addresses_and_ranges_are_allowed_where_they_are_named() {
        check(
            "10.0.0.0/8,127.0.0.1,fd00::/8,8.8.8.8",
            &["10.1.2.3", "127.0.0.1", "127.1", "[fd00::1]", "8.8.8.8"],
            &[
                "11.0.0.1",
                "127.0.0.2",
                "[::ffff:127.0.0.1]",
                "[fc00::1]",
                "1.1.1.1",
                "name.test",
            ],
        );
        let policy = policy("files.test,10.0.0.0/8");
        assert!(policy.allows_address("10.1.2.3".parse().unwrap()));
        assert!(!policy.allows_address("192.168.1.1".parse().unwrap()));
    }

    #[test]
    fn without_a_list_nothing_is_allowed() {
        assert!(FetchPolicy::default().is_empty());
        assert!(!policy("*").is_empty());
    }

    #[test]
    fn refuses_what_is_no_host() {
        for entry in [
            "",
            "http://example.com",
            "example.com:80",
            "example.com/path",
            "a.*.example.com",
            "**",
            "*.",
            "0x7f.1",
            "10.0.0.0/33",
            "user@example.com",
        ] {
            let error = FetchPolicy::from_list(&["fine.test", entry]).unwrap_err();
            assert_eq!(error.entry, entry);
        }
    }
}
