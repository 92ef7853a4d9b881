//! The order in which documents that point to one another can be stored.

use std::collections::HashMap;

use wharf_vocab::Digest;

/// Places of what can be reached from the first, each behind everything that it points to. `points_to` has the digest of
/// each document, once, and what it points to; who is not among them is left out.
pub(crate) fn inside_out(documents: &[(&Digest, &[Digest])]) -> Vec<usize> {
    let places: HashMap<&Digest, usize> = documents.iter().enumerate().map(|(n, (of, _))| (*of, n)).collect();
    let mut is_seen = vec![false; documents.len()];
    let mut order = Vec::with_capacity(documents.len());
    // where the way from the first has got to, and which of its children is next at each place
    let mut way = Vec::new();
    if let Some(first) = is_seen.first_mut() {
        *first = true;
        way.push((0, 0));
    }
    while let Some((at, next)) = way.last_mut() {
        let Some(child) = documents[*at].1.get(*next) else {
            order.push(*at);
            way.pop();
            continue;
        };
        *next += 1;
        if let Some(&place) = places.get(child)
            && !std::mem::replace(&mut is_seen[place], true)
        {
            way.push((place, 0));
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(name: &str) -> Digest {
        Digest::sha256(name.as_bytes())
    }

    fn order(documents: &[(&str, &[&str])]) -> Vec<String> {
        let owned: Vec<(Digest, Vec<Digest>)> = documents
            .iter()
            .map(|(of, to)| (digest(of), to.iter().map(|name| digest(name)).collect()))
            .collect();
        let borrowed: Vec<_> = owned.iter().map(|(of, to)| (of, to.as_slice())).collect();
        inside_out(&borrowed).into_iter().map(|n| documents[n].0.to_owned()).collect()
    }

    #[test]
    fn what_is_pointed_to_comes_first() {
        assert_eq!(order(&[]), [""; 0]);
        assert_eq!(order(&[("a", &[])]), ["a"]);
        assert_eq!(order(&[("a", &["b", "c"]), ("b", &[]), ("c", &[])]), ["b", "c", "a"]);
    }

    #[test]
    fn an_index_follows_a_manifest_that_another_index_has_too() {
        let shared = [("root", &["inner", "m"][..]), ("m", &[]), ("inner", &["m"])];
        assert_eq!(order(&shared), ["m", "inner", "root"]);
        let shared = [("root", &["m", "inner"][..]), ("inner", &["m", "not here"]), ("m", &[])];
        assert_eq!(order(&shared), ["m", "inner", "root"]);
    }
}
