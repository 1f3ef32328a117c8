//! Rules: what somebody may do, by who it is.
//!
//! A rule gives its grants to a sender of whom all that it asks is so. What was caught in doing so
//! makes the namespaces. Grants of all rules add up; where none gives any, nothing may be done.

use serde_json::{Map, Value};

use super::caller::{Grant, Rights};
use super::certificates::Name;
use super::pattern::{Captures, Pattern, Separators, Template};
use super::tokens::Tokens;

/// In so many ways a rule can be about a sender, at most: one with many groups, for instance.
const MOST_WAYS: usize = 64;

/// A rule.
#[derive(Debug, Clone)]
pub struct Rule {
    /// What the audit log calls it.
    pub name: String,
    /// Whose tokens it is about; `None` for the only issuer's.
    pub issuer: Option<String>,
    /// What a token has to say.
    pub claims: Vec<(String, Pattern)>,
    /// What a certificate has to be called.
    pub certificate: Option<Pattern>,
    /// What the token has to be among.
    pub tokens: Option<Tokens>,
    /// What it gives.
    pub grants: Vec<(Template, Rights)>,
}

/// A token whose signature is good.
#[derive(Debug, Clone, Copy)]
pub struct Signed<'a> {
    /// Who signed it.
    pub issuer: &'a str,
    /// What it says.
    pub claims: &'a Map<String, Value>,
}

/// What is proven of a sender.
#[derive(Debug, Clone, Copy, Default)]
pub struct Proven<'a> {
    /// A token that is known by itself.
    pub token: Option<&'a str>,
    /// A token that somebody signed.
    pub signed: Option<Signed<'a>>,
    /// The names in the certificate of the connection.
    pub certificate: &'a [Name],
}

impl Rule {
    /// What it gives a sender.
    pub fn grants(&self, proven: &Proven<'_>) -> Vec<Grant> {
        let mut grants = Vec::new();
        for captures in self.ways(proven) {
            for (template, rights) in &self.grants {
                // What was caught may be no part of a namespace: `blobs`, for instance.
                let Some(namespace) = template.fill(&captures) else {
                    tracing::debug!(rule = self.name, %template, "no namespace comes out");
                    continue;
                };
                let rights = *rights;
                let grant = Grant { namespace, rights };
                if !grants.contains(&grant) {
                    grants.push(grant);
                }
            }
        }
        grants
    }

    /// What is caught in each way in which all that it asks is so.
    fn ways(&self, proven: &Proven<'_>) -> Vec<Captures> {
        let mut ways = vec![Captures::new()];
        if !self.claims.is_empty() {
            let issuer = self.issuer.as_deref();
            let signed = proven
                .signed
                .filter(|signed| issuer.is_none_or(|one| one == signed.issuer));
            let Some(signed) = signed else {
                return Vec::new();
            };
            for (name, pattern) in &self.claims {
                let values = values(claim(signed.claims, name));
                let found = values
                    .iter()
                    .filter_map(|value| pattern.captures(value, Separators::Slash));
                ways = joined(&ways, &found.collect::<Vec<_>>());
            }
        }
        if let Some(pattern) = &self.certificate {
            let names = proven.certificate.iter();
            let found = names.filter_map(|name| pattern.captures(&name.text, name.separators));
            ways = joined(&ways, &found.collect::<Vec<_>>());
        }
        if let Some(tokens) = &self.tokens
            && proven
                .token
                .and_then(|token| tokens.name_of(token))
                .is_none()
        {
            return Vec::new();
        }
        ways
    }
}

/// Ways that agree with one another.
fn joined(ways: &[Captures], found: &[Captures]) -> Vec<Captures> {
    let mut all = Vec::new();
    for way in ways {
        for captures in found {
            let agrees = |(name, value)| way.get(name).is_none_or(|other| other == value);
            if captures.iter().all(agrees) && all.len() < MOST_WAYS {
                let mut both = way.clone();
                both.extend(captures.clone());
                all.push(both);
            }
        }
    }
    all
}

/// A claim by its name, or by where it is (`/kubernetes.io/namespace`).
fn claim<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    if let Some(found) = claims.get(name) {
        return Some(found);
    }
    let mut segments = name.strip_prefix('/')?.split('/');
    let first = claims.get(segments.next()?)?;
    segments.try_fold(first, |value, segment| value.get(segment))
}

/// The values of a claim, as texts.
fn values(claim: Option<&Value>) -> Vec<String> {
    let one = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Number(number) if !number.is_f64() => Some(number.to_string()),
        _ => None,
    };
    match claim {
        Some(Value::Array(all)) => all.iter().filter_map(one).take(MOST_WAYS).collect(),
        Some(value) => one(value).into_iter().collect(),
        None => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::auth::Right;

    fn rule(claims: &[(&str, &str)], certificate: Option<&str>, namespace: &str) -> Rule {
        let pattern = |text: &str| text.parse::<Pattern>().expect("a pattern");
        Rule {
            name: "r".to_owned(),
            issuer: None,
            claims: claims
                .iter()
                .map(|(name, text)| ((*name).to_owned(), pattern(text)))
                .collect(),
            certificate: certificate.map(pattern),
            tokens: None,
            grants: vec![(
                namespace.parse().expect("a template"),
                [Right::Read].into_iter().collect(),
            )],
        }
    }

    fn namespaces(rule: &Rule, claims: &Value, names: &[&str]) -> Vec<String> {
        let name = |text: &&str| Name {
            text: (*text).to_owned(),
            separators: Separators::SlashAndDot,
        };
        let names: Vec<_> = names.iter().map(name).collect();
        let proven = Proven {
            token: None,
            signed: claims.as_object().map(|claims| Signed {
                issuer: "https://ci.example",
                claims,
            }),
            certificate: &names,
        };
        let grants = rule.grants(&proven).into_iter();
        grants.map(|grant| grant.namespace).collect()
    }

    #[test]
    fn all_claims_have_to_match() {
        let rule = rule(
            &[
                ("repository", "{org}/{repo}"),
                ("ref", "refs/pull/{pr}/merge"),
            ],
            None,
            "{org}/{repo}/pr/{pr}",
        );
        let of = |repository: &str, reference: &str| {
            let claims = json!({"repository": repository, "ref": reference, "more": 1});
            namespaces(&rule, &claims, &[])
        };
        assert_eq!(of("acme/app", "refs/pull/17/merge"), ["acme/app/pr/17"]);
        assert!(of("acme/app", "refs/heads/main").is_empty());
        assert!(of("acme", "refs/pull/17/merge").is_empty());
        assert!(
            of("acme/blobs", "refs/pull/17/merge").is_empty(),
            "a keyword"
        );
        assert!(of("acme/..", "refs/pull/17/merge").is_empty());
        assert!(namespaces(&rule, &json!({"repository": "acme/app"}), &[]).is_empty());
        assert!(
            namespaces(&rule, &Value::Null, &["acme/app"]).is_empty(),
            "no token"
        );
    }

    #[test]
    fn what_is_caught_twice_has_to_be_the_same() {
        let rule = rule(
            &[
                ("repository", "{org}/{repo}"),
                ("workflow", "{org}/{repo}/ci@{_}"),
            ],
            None,
            "{org}/{repo}",
        );
        let of = |workflow: &str| {
            let claims = json!({"repository": "acme/app", "workflow": workflow});
            namespaces(&rule, &claims, &[])
        };
        assert_eq!(of("acme/app/ci@v1"), ["acme/app"]);
        assert!(of("evil/app/ci@v1").is_empty());
    }

    #[test]
    fn each_value_of_a_list_counts() {
        let rule = rule(&[("groups", "team-{team}")], None, "{team}");
        let claims = json!({"groups": ["team-a", "other", 7, "team-b", {"team-c": 1}]});
        assert_eq!(namespaces(&rule, &claims, &[]), ["a", "b"]);
        let many: Vec<_> = (0..1000).map(|number| format!("team-{number}")).collect();
        assert_eq!(
            namespaces(&rule, &json!({"groups": many}), &[]).len(),
            MOST_WAYS
        );
    }

    #[test]
    fn numbers_and_flags_are_texts_and_objects_can_be_looked_into() {
        let rule = rule(
            &[
                ("id", "{id}"),
                ("protected", "true"),
                ("/kubernetes.io/namespace", "{ns}"),
            ],
            None,
            "{ns}/{id}",
        );
        let claims = json!({
            "id": 7, "protected": true, "kubernetes.io": {"namespace": "build"}
        });
        assert_eq!(namespaces(&rule, &claims, &[]), ["build/7"]);
        let claims = json!({
            "id": 7.5, "protected": true, "kubernetes.io": {"namespace": "build"}
        });
        assert!(namespaces(&rule, &claims, &[]).is_empty());
    }

    #[test]
    fn a_certificate_and_a_token_can_both_be_asked_for() {
        let both = rule(
            &[("sub", "{who}")],
            Some("builder-{n}.example"),
            "{who}/{n}",
        );
        let claims = json!({"sub": "ci"});
        assert_eq!(
            namespaces(&both, &claims, &["x", "builder-1.example"]),
            ["ci/1"]
        );
        assert!(namespaces(&both, &claims, &[]).is_empty());
        assert!(namespaces(&both, &Value::Null, &["builder-1.example"]).is_empty());
        let one = rule(&[], Some("builder-{n}.example"), "a/{n}");
        assert_eq!(
            namespaces(&one, &Value::Null, &["builder-1.example"]),
            ["a/1"]
        );
        assert!(namespaces(&one, &Value::Null, &["builder-1.b.example"]).is_empty());
    }

    #[test]
    fn another_issuers_tokens_are_not_meant() {
        let mut rule = rule(&[("sub", "{who}")], None, "{who}");
        rule.issuer = Some("https://other.example".to_owned());
        assert!(namespaces(&rule, &json!({"sub": "ci"}), &[]).is_empty());
        rule.issuer = Some("https://ci.example".to_owned());
        assert_eq!(namespaces(&rule, &json!({"sub": "ci"}), &[]), ["ci"]);
    }
}
