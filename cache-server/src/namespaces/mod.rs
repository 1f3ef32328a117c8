//! Namespaces: what instance names mean where teams do not trust each other.
//!
//! A *table* of the settings says for a pattern of names what those read through to and what they
//! may use. It concerns all names that begin with the pattern; what is below the same beginning is
//! one *holder*: blobs, quota and rates are its, so that making up names below gains nothing. A name
//! that no table concerns is a holder by itself, without limits.
//!
//! ```text
//! table     name = "acme/*/pr/*", reads = ["acme/{1}/main"]
//! request   acme/web/pr/17/linux
//! holder    acme/web/pr/17
//! reads     acme/web/pr/17/linux, then acme/web/main (whose holder its own table says)
//! ```

pub mod pattern;

use ashlar_proto::resource_name::is_instance_name;

use self::pattern::{Pattern, Template};
use crate::limits::INSTANCE_NAME;

/// What a holder may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// Bytes of blobs that it may hold.
    pub held: Option<u64>,
    /// Requests a second.
    pub requests: Option<u64>,
    /// Bytes a second that come and go.
    pub bytes: Option<u64>,
}

/// What the settings say of some namespaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Which they are.
    pub pattern: Pattern,
    /// What they read through to, in this order.
    pub reads: Vec<Template>,
    /// What each may use.
    pub limits: Limits,
}

/// All tables; the first that concerns a name counts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Namespaces(pub Vec<Table>);

/// What a name means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The name itself, and those that it reads through to.
    pub instances: Vec<String>,
    /// Whose the blobs of the name are, and whose it sees; none comes twice.
    pub holders: Vec<String>,
    /// What the first holder may use.
    pub limits: Limits,
}

impl Place {
    /// A name where all who come in trust each other.
    pub fn shared(instance: &str) -> Self {
        Self {
            instances: vec![instance.to_owned()],
            holders: vec![String::new()],
            limits: Limits::default(),
        }
    }

    /// The name itself.
    pub fn instance(&self) -> &str {
        self.instances.first().map_or("", String::as_str)
    }

    /// The name under which it is counted what is done here: the holder's, where there are any.
    pub fn counted(&self) -> &str {
        match self.holder() {
            "" => self.instance(),
            holder => holder,
        }
    }

    /// Whose the blobs of the name are.
    pub fn holder(&self) -> &str {
        self.holders.first().map_or("", String::as_str)
    }
}

impl Namespaces {
    fn table<'a, 'n>(&'a self, name: &'n str) -> Option<(&'a Table, pattern::Found<'n>)> {
        let mut tables = self.0.iter();
        tables.find_map(|table| Some((table, table.pattern.find(name)?)))
    }

    fn holder<'n>(&self, name: &'n str) -> &'n str {
        self.table(name).map_or(name, |(_, found)| found.beginning)
    }

    /// What a name means, which has to be a good one.
    pub fn place(&self, name: &str) -> Place {
        let mut place = Place {
            instances: vec![name.to_owned()],
            holders: vec![self.holder(name).to_owned()],
            limits: Limits::default(),
        };
        let Some((table, found)) = self.table(name) else {
            return place;
        };
        place.limits = table.limits;
        for template in &table.reads {
            let read = template.fill(&found.stars);
            // What a star stood for may make a name that no request could have.
            let is_good = read.len() <= INSTANCE_NAME && is_instance_name(&read);
            if !is_good || place.instances.contains(&read) {
                continue;
            }
            let holder = self.holder(&read);
            if !place.holders.iter().any(|known| known == holder) {
                place.holders.push(holder.to_owned());
            }
            place.instances.push(read);
        }
        place
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(name: &str, reads: &[&str]) -> Table {
        let pattern: Pattern = name.parse().expect("a pattern");
        let reads = reads.iter();
        let reads = reads.map(|text| Template::new(text, &pattern).expect("a template"));
        Table {
            reads: reads.collect(),
            pattern,
            limits: Limits {
                requests: Some(name.len() as u64),
                ..Limits::default()
            },
        }
    }

    fn namespaces() -> Namespaces {
        Namespaces(vec![
            table("acme/*/pr/*", &["acme/{1}/main", "acme/base"]),
            table("acme/*", &["acme/base"]),
            table("twins/*/of/*", &["{2}/{1}", "twins/{1}/of/{2}"]),
        ])
    }

    #[test]
    fn a_pull_request_reads_through_to_main_and_holds_for_itself() {
        let place = namespaces().place("acme/web/pr/17");
        assert_eq!(
            place.instances,
            ["acme/web/pr/17", "acme/web/main", "acme/base"]
        );
        // `acme/web/main` is the team's, as the second table says, and `acme/base` too.
        assert_eq!(place.holders, ["acme/web/pr/17", "acme/web", "acme/base"]);
        assert_eq!(place.limits.requests, Some(11));
    }

    #[test]
    fn names_below_are_of_the_same_holder_but_have_results_of_their_own() {
        let namespaces = namespaces();
        let place = namespaces.place("acme/web/pr/17/linux/a");
        assert_eq!(place.instance(), "acme/web/pr/17/linux/a");
        assert_eq!(place.holder(), "acme/web/pr/17");
        assert_eq!(namespaces.place("acme/web/pr").holder(), "acme/web");
        assert_eq!(
            namespaces.place("acme/web/pr/170").holder(),
            "acme/web/pr/170"
        );
    }

    #[test]
    fn a_name_that_no_table_concerns_stands_alone() {
        let place = namespaces().place("other/team");
        assert_eq!(place.instances, ["other/team"]);
        assert_eq!(place.holders, ["other/team"]);
        assert_eq!(place.limits, Limits::default());
        assert_eq!(namespaces().place("").holders, [""]);
        assert_eq!(namespaces().place("acme").holder(), "acme");
    }

    #[test]
    fn what_no_request_could_name_is_not_read() {
        // A keyword cannot be made out of stars, and nobody reads itself twice.
        let place = namespaces().place("twins/a/of/b");
        assert_eq!(place.instances, ["twins/a/of/b", "b/a"]);
        let long = format!("twins/{}/of/b", "a".repeat(240));
        assert_eq!(namespaces().place(&long).instances.len(), 2);
    }
}
