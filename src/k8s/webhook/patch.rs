//! The difference between two pods as a JSON patch (RFC 6902) with few and small operations.
//!
//! Injection sets fields, and adds items at the beginning or the end of lists. A list that changed in another way is
//! replaced.

use serde_json::{Value, json};

/// The operations that change `before` to `after`.
pub(super) fn between(before: &Value, after: &Value) -> Vec<Value> {
    let mut operations = Vec::new();
    compare(before, after, &mut String::new(), &mut operations);
    operations
}

fn compare(before: &Value, after: &Value, path: &mut String, operations: &mut Vec<Value>) {
    match (before, after) {
        (before, after) if before == after => {}
        (Value::Object(old), Value::Object(new)) => {
            for name in old.keys().filter(|name| !new.contains_key(*name)) {
                below(path, &escaped(name), |path| {
                    operations.push(json!({ "op": "remove", "path": path }));
                });
            }
            for (name, new) in new {
                below(path, &escaped(name), |path| match old.get(name) {
                    Some(old) => compare(old, new, path, operations),
                    None => operations.push(json!({ "op": "add", "path": path, "value": new })),
                });
            }
        }
        (Value::Array(old), Value::Array(new)) => {
            let Some(front) = put_in_front(old, new) else {
                operations.push(json!({ "op": "replace", "path": path, "value": after }));
                return;
            };
            for (at, item) in new[..front].iter().enumerate() {
                below(path, &at.to_string(), |path| {
                    operations.push(json!({ "op": "add", "path": path, "value": item }));
                });
            }
            for (at, (old, new)) in old.iter().zip(&new[front..]).enumerate() {
                below(path, &(at + front).to_string(), |path| {
                    compare(old, new, path, operations);
                });
            }
            for item in &new[front + old.len()..] {
                below(path, "-", |path| {
                    operations.push(json!({ "op": "add", "path": path, "value": item }));
                });
            }
        }
        (_, after) => operations.push(json!({ "op": "replace", "path": path, "value": after })),
    }
}

/// How many items of `new` come before those of `old`, if all of these are still there. Items with the same name
/// count as the same.
fn put_in_front(old: &[Value], new: &[Value]) -> Option<usize> {
    let more = new.len().checked_sub(old.len())?;
    let same = |old: &Value, new: &Value| match (old.get("name"), new.get("name")) {
        (Some(old), Some(new)) => old == new,
        _ => old == new || (old.is_object() && new.is_object() && more == 0),
    };
    let fits = |front: usize| {
        old.iter()
            .zip(&new[front..])
            .all(|(old, new)| same(old, new))
    };
    [0, more].into_iter().find(|front| fits(*front))
}

/// Calls a function while `path` has one more segment.
fn below(path: &mut String, name: &str, work: impl FnOnce(&mut String)) {
    let length = path.len();
    path.push('/');
    path.push_str(name);
    work(path);
    path.truncate(length);
}

fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn patched(before: &Value, after: &Value) -> (usize, Value) {
        let operations = between(before, after);
        let count = operations.len();
        let patch: json_patch::Patch = serde_json::from_value(operations.into()).unwrap();
        let mut patched = before.clone();
        json_patch::patch(&mut patched, &patch).unwrap();
        (count, patched)
    }

    #[test]
    fn an_item_put_in_front_of_many_is_one_operation() {
        let item = |name: u32| json!({ "name": name, "value": "x" });
        let many: Vec<Value> = (0..1000).map(item).collect();
        let more: Vec<Value> = std::iter::once(item(1000)).chain(many.clone()).collect();
        let (before, after) = (json!({ "a/b~": many }), json!({ "a/b~": more }));
        assert_eq!(patched(&before, &after), (1, after));
    }

    fn anything() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            (0..3).prop_map(|n| json!(n)),
            "[ab]".prop_map(Value::from)
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec(("name|[a-c~/]", inner), 0..4)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_patch_makes_what_it_was_made_from(before in anything(), after in anything()) {
            prop_assert_eq!(patched(&before, &after).1, after);
        }
    }
}
