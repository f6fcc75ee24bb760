//! Finding the one thing that a person means by a name or the start of an id.

use reachback_proto::words::quote;

/// Shortest start of an id that is taken for one.
const MIN_PREFIX: usize = 4;
/// Things listed in an error.
const LISTED: usize = 8;

/// Why no one thing was meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FindError {
    /// There is nothing to choose from.
    #[error("there is no {kind} yet")]
    Empty {
        /// "device" or "host".
        kind: &'static str,
    },
    /// Nothing has this name or id.
    #[error("no {kind} is called {}; there is {}", quote(query), known.join(", "))]
    Unknown {
        /// "device" or "host".
        kind: &'static str,
        /// What was asked for.
        query: String,
        /// What there is.
        known: Vec<String>,
    },
    /// Several have.
    #[error("{} could be {}: use more of the id", quote(query), matches.join(" or "))]
    Ambiguous {
        /// What was asked for.
        query: String,
        /// What it could be.
        matches: Vec<String>,
    },
}

/// The item of which `query` is the id, else the name, else the start (four characters or more) of the id.
///
/// A whole id wins over a name, so that a device can't take another's place by
/// naming itself after the other's id.
pub(super) fn find<'a, T>(
    kind: &'static str,
    query: &str,
    items: &'a [T],
    describe: impl Fn(&T) -> (String, &str),
) -> Result<&'a T, FindError> {
    let wanted = query.trim().to_lowercase();
    let label = |item: &T| {
        let (id, name) = describe(item);
        format!("{} ({})", quote(name), id.chars().take(8).collect::<String>())
    };
    let pick = |test: &dyn Fn(&str, &str) -> bool| -> Vec<&'a T> {
        let fits = |item: &&T| {
            let (id, name) = describe(item);
            test(&id, &name.to_lowercase())
        };
        items.iter().filter(fits).collect()
    };
    let whole = pick(&|id, _| id == wanted);
    let named = pick(&|id, name| name == wanted || (wanted.len() >= MIN_PREFIX && id.starts_with(&wanted)));
    match (whole.as_slice(), named.as_slice()) {
        ([item], _) | ([], [item]) => Ok(item),
        ([], []) if items.is_empty() => Err(FindError::Empty { kind }),
        ([], []) => Err(FindError::Unknown {
            kind,
            query: query.chars().take(64).collect(),
            known: items.iter().take(LISTED).map(label).collect(),
        }),
        _ => Err(FindError::Ambiguous {
            query: query.chars().take(64).collect(),
            matches: named.iter().take(LISTED).map(|item| label(item)).collect(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ITEMS: [(&str, &str); 4] =
        [("abcdefgh", "Phone"), ("abcdxxxx", "Tablet"), ("mnopqrst", "Phone"), ("uvwxyz22", "abcdefgh")];

    fn look(query: &str) -> Result<&'static str, FindError> {
        find("device", query, &ITEMS, |(id, name)| ((*id).to_owned(), name)).map(|(id, _)| *id)
    }

    #[test]
    fn names_ids_and_starts_of_ids_find_the_one_that_is_meant() {
        assert_eq!(look("tablet"), Ok("abcdxxxx"));
        assert_eq!(look(" MNOP "), Ok("mnopqrst"));
        assert_eq!(look("abcdefgh"), Ok("abcdefgh"), "a name must not take the place of an id");
    }

    #[test]
    fn what_is_not_clear_is_refused_with_the_choices() {
        let error = look("phone").unwrap_err();
        assert_eq!(error.to_string(), "“phone” could be “Phone” (abcdefgh) or “Phone” (mnopqrst): use more of the id");
        assert!(matches!(look("abcd"), Err(FindError::Ambiguous { .. })));
        let error = look("mno").unwrap_err();
        assert!(error.to_string().contains("“Tablet” (abcdxxxx)"), "{error}");
        assert!(matches!(look(""), Err(FindError::Unknown { .. })));
        let error = look("x`; there is “Tablet\n\u{1b}[2J").unwrap_err();
        assert!(
            error.to_string().starts_with("no device is called “x'; there is 'Tablet??[2J”; there is “Phone” ("),
            "{error}"
        );
        let none: [(&str, &str); 0] = [];
        assert!(matches!(
            find("host", "x", &none, |(id, name)| ((*id).to_owned(), name)),
            Err(FindError::Empty { kind: "host" })
        ));
    }
}
