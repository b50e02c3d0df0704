//! The JSON Schema of the file, for editors: the table of keys, printed.
//!
//! It says what one can say key by key; what needs the whole file (names, types of expressions) only `check` knows.
//! Wherever a scalar is expected a text with `${` is allowed, because its value comes from the environment.

use serde_json::{Map, Value, json};

use super::connection::OWNED_SETTINGS;
use super::keys::{Block, FILE, Key, REPEATS, Shape};
use super::names::Name;
use super::source::FIELD_TYPES;

/// The JSON Schema (2020-12) of a pipeline file.
pub fn json_schema() -> Value {
    let mut definitions = Map::new();
    let root = block(&FILE, &mut definitions);
    let mut schema = Map::new();
    schema.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
    schema.insert("title".to_owned(), json!("millstream pipeline"));
    if let Value::Object(root) = root {
        schema.extend(root);
    }
    schema.insert("$defs".to_owned(), Value::Object(definitions));
    Value::Object(schema)
}

fn block(block: &'static Block, definitions: &mut Map<String, Value>) -> Value {
    let mut properties = Map::new();
    for key in block.keys {
        properties.insert(key.name.to_owned(), property(key, definitions));
    }
    let required: Vec<&str> = block.keys.iter().filter(|k| k.required).map(|k| k.name).collect();
    let mut schema = json!({
        "description": block.doc,
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
    });
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

fn property(key: &'static Key, definitions: &mut Map<String, Value>) -> Value {
    let mut schema = shape(&key.shape, definitions);
    schema["description"] = json!(key.doc);
    schema
}

fn shape(shape_of: &'static Shape, definitions: &mut Map<String, Value>) -> Value {
    match shape_of {
        Shape::Text(name) => text(name.pattern()),
        Shape::AnyText | Shape::Expression => json!({ "type": "string" }),
        Shape::Word(words) => text(&format!("^({})$", words.join("|"))),
        Shape::WordOrTime(words) => text(&format!("^({})$|^[0-9]{{4}}-", words.join("|"))),
        Shape::Duration => text("^[0-9]+(ms|s|m|h|d)$"),
        Shape::Size => text("^[0-9]+(B|KiB|MiB|GiB)$"),
        Shape::Integer(least, most) => {
            json!({ "anyOf": [{ "type": "integer", "minimum": least, "maximum": most }, variable()] })
        }
        Shape::FieldType => {
            let words: Vec<&str> = FIELD_TYPES.iter().map(|(word, ..)| *word).collect();
            text(&format!("^({})!?$", words.join("|")))
        }
        Shape::Setting => json!({ "type": ["string", "number", "boolean"] }),
        Shape::Value => json!({ "type": ["string", "number", "boolean", "null"] }),
        Shape::Event => json!({
            "type": "object",
            "properties": {
                "repeat": {
                    "description": "How often the event occurs.",
                    "anyOf": [{ "type": "integer", "minimum": REPEATS.0, "maximum": REPEATS.1 }, variable()],
                },
            },
        }),
        Shape::Block(inner) => {
            if !definitions.contains_key(inner.name) {
                definitions.insert(inner.name.to_owned(), Value::Null);
                let schema = block(inner, definitions);
                definitions.insert(inner.name.to_owned(), schema);
            }
            json!({ "$ref": format!("#/$defs/{}", inner.name) })
        }
        Shape::Named(name, inner) => named(*name, shape(inner, definitions)),
        Shape::List(inner) => json!({ "type": "array", "items": shape(inner, definitions) }),
        Shape::OneOf(shapes) => {
            let shapes: Vec<Value> = shapes.iter().map(|s| shape(s, definitions)).collect();
            json!({ "anyOf": shapes })
        }
    }
}

fn named(name: Name, value: Value) -> Value {
    let mut names = json!({ "pattern": name.pattern() });
    if name == Name::Setting {
        let owned: Vec<&str> = OWNED_SETTINGS.iter().map(|(owned, _)| *owned).collect();
        names["not"] = json!({ "enum": owned });
    }
    json!({ "type": "object", "propertyNames": names, "additionalProperties": value })
}

/// A text of this pattern, or one whose value comes from the environment.
fn text(pattern: &str) -> Value {
    json!({ "type": "string", "pattern": format!("{pattern}|\\$\\{{") })
}

fn variable() -> Value {
    json!({ "type": "string", "pattern": "\\$\\{" })
}

#[cfg(test)]
mod tests {
    use regex::Regex;

    use super::super::check::check;
    use super::super::problem::Problems;
    use super::super::raw::{Entry, Item, Kind, Node, parse};
    use super::super::scalar::{Plain, whole};
    use super::super::variables;
    use super::*;

    const EVERY_KEY: &str = include_str!("fixtures/every-key.yaml");

    static ROOT: Shape = Shape::Block(&FILE);

    fn tree(text: &str) -> Node {
        let mut problems = Problems::new(text);
        let mut node = parse(text, &mut problems).expect("YAML");
        variables::replace(&mut node, "", &|_| None, &mut problems);
        node
    }

    fn to_json(node: &Node) -> Value {
        match &node.kind {
            Kind::Map(entries) => entries.iter().map(|e| (e.key.clone(), to_json(&e.value))).collect(),
            Kind::List(items) => items.iter().map(to_json).collect(),
            Kind::Scalar(scalar) => match scalar.resolve() {
                _ if scalar.typed.is_some() => json!(scalar.typed),
                Plain::Null => Value::Null,
                Plain::Boolean(v) => json!(v),
                Plain::Integer(v) => json!(whole(v).map(|v| v as i64)),
                Plain::Float(v) => json!(v.parse::<f64>().ok()),
                Plain::Text(v) => json!(v),
            },
        }
    }

    /// The keywords that `json_schema` uses.
    fn conforms(value: &Value, schema: &Value, root: &Value) -> Result<(), String> {
        if let Some(to) = schema["$ref"].as_str() {
            let target = root.pointer(to.trim_start_matches('#')).ok_or(format!("no {to}"))?;
            conforms(value, target, root)?;
        }
        if let Some(any) = schema["anyOf"].as_array() {
            let each: Vec<_> = any.iter().map(|schema| conforms(value, schema, root)).collect();
            if each.iter().all(Result::is_err) {
                return Err(format!("{value}: none of {each:?}"));
            }
        }
        let kind = match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(n) if n.is_i64() => "integer",
            Value::Number(_) => "number",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        let is = |wanted: &Value| wanted == kind || wanted == "number" && kind == "integer";
        match &schema["type"] {
            Value::Null => {}
            Value::Array(kinds) if kinds.iter().any(is) => {}
            wanted if is(wanted) => {}
            wanted => return Err(format!("{value} is not {wanted}")),
        }
        let unlike = |text: &str, pattern: &str| !Regex::new(pattern).is_ok_and(|p| p.is_match(text));
        match (value.as_str(), schema["pattern"].as_str()) {
            (Some(text), Some(pattern)) if unlike(text, pattern) => {
                return Err(format!("{text} is not like {pattern}"));
            }
            _ => {}
        }
        let number = value.as_i64().unwrap_or_default();
        if schema["minimum"].as_i64().is_some_and(|m| number < m)
            || schema["maximum"].as_i64().is_some_and(|m| number > m)
        {
            return Err(format!("{number} is out of range"));
        }
        for item in value.as_array().into_iter().flatten() {
            conforms(item, &schema["items"], root)?;
        }
        let Some(object) = value.as_object() else { return Ok(()) };
        for (key, value) in object {
            conforms(&json!(key), &schema["propertyNames"], root)?;
            match (schema["properties"].get(key), &schema["additionalProperties"]) {
                (Some(property), _) => conforms(value, property, root)?,
                (None, Value::Bool(false)) => return Err(format!("unknown key {key}")),
                (None, others) => conforms(value, others, root)?,
            }
        }
        let required = schema["required"].as_array().into_iter().flatten();
        required.filter_map(Value::as_str).try_for_each(|key| match object.contains_key(key) {
            true => Ok(()),
            false => Err(format!("{key} is missing")),
        })
    }

    fn problems(root: &Node) -> usize {
        let mut problems = Problems::new(EVERY_KEY);
        check(&Item::root(root), &mut problems);
        problems.len()
    }

    /// Calls `visit` with every map of fixed keys.
    fn blocks(
        node: &mut Node,
        shape: &'static Shape,
        visit: &mut dyn FnMut(&mut Vec<Entry>, &'static Block),
    ) {
        match (&mut node.kind, shape) {
            (Kind::Map(entries), Shape::Block(block)) => {
                for key in block.keys {
                    for entry in entries.iter_mut().filter(|e| e.key == key.name) {
                        blocks(&mut entry.value, &key.shape, visit);
                    }
                }
                visit(entries, block);
            }
            (Kind::Map(entries), Shape::Named(_, inner)) => {
                entries.iter_mut().for_each(|entry| blocks(&mut entry.value, inner, visit));
            }
            (Kind::List(items), Shape::List(inner)) => {
                items.iter_mut().for_each(|item| blocks(item, inner, visit));
            }
            (Kind::Map(entries), Shape::OneOf(shapes)) => {
                let fits = |shape: &Shape| match shape {
                    Shape::Block(block) => {
                        entries.iter().all(|e| block.keys.iter().any(|key| key.name == e.key))
                    }
                    _ => true,
                };
                let fitting: Vec<&'static Shape> = shapes.iter().filter(|shape| fits(shape)).collect();
                fitting.into_iter().for_each(|shape| blocks(node, shape, visit));
            }
            (_, Shape::OneOf(shapes)) => shapes.iter().for_each(|shape| blocks(node, shape, visit)),
            _ => {}
        }
    }

    #[test]
    fn a_file_with_every_key_passes_both() {
        let schema = json_schema();
        let mut root = tree(EVERY_KEY);
        assert_eq!(conforms(&to_json(&root), &schema, &schema), Ok(()));
        assert_eq!(problems(&root), 0);
        let enriched = tree(include_str!("../../../pipelines/enriched-activity.yaml"));
        assert_eq!(conforms(&to_json(&enriched), &schema, &schema), Ok(()));
        let (mut used, mut known) = (Vec::new(), Vec::new());
        blocks(&mut root, &ROOT, &mut |entries, block| {
            used.extend(entries.iter().map(|e| (block.name, e.key.clone())));
            known.extend(block.keys.iter().map(|k| (block.name, k.name.to_owned())));
        });
        used.sort();
        used.dedup();
        known.sort();
        known.dedup();
        assert_eq!(used, known, "the fixture uses every key of every block");
        assert_eq!(
            schema["$defs"].as_object().map(Map::len),
            Some(known.chunk_by(|a, b| a.0 == b.0).count() - 1)
        );
    }

    #[test]
    fn what_one_refuses_the_other_refuses() {
        let schema = json_schema();
        let root = tree(EVERY_KEY);
        let mut count = 0;
        blocks(&mut root.clone(), &ROOT, &mut |_, block| count += 1 + block.keys.len());
        for chosen in 0..count {
            let (mut edited, mut index, mut refused, mut what) = (root.clone(), 0, false, String::new());
            blocks(&mut edited, &ROOT, &mut |entries, block| {
                if index == chosen {
                    let mut extra = entries[0].clone();
                    extra.key = "zzz".to_owned();
                    entries.push(extra);
                    (refused, what) = (true, format!("zzz in {}", block.name));
                }
                for (key, place) in block.keys.iter().zip(index + 1..) {
                    if place == chosen {
                        refused = key.required && entries.iter().any(|e| e.key == key.name);
                        entries.retain(|e| !refused || e.key != key.name);
                        what = format!("no {} in {}", key.name, block.name);
                    }
                }
                index += 1 + block.keys.len();
            });
            assert_eq!(problems(&edited) > 0, refused, "check: {what}");
            assert_eq!(conforms(&to_json(&edited), &schema, &schema).is_err(), refused, "schema: {what}");
        }
    }
}
