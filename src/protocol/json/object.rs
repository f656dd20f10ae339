//! The members of one object, taken out by name, so that what is left over can be named.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::text::quote;

/// The members of an object in their order, each as it was written.
#[derive(Clone, Debug, Default)]
pub struct Object<'j> {
    /// `None` where a member was taken.
    members: Vec<(Cow<'j, str>, Option<&'j RawValue>)>,
    /// Where each name stands last, in an object of many members.
    places: HashMap<Cow<'j, str>, usize>,
}

/// How many members are many: with fewer it is quicker to look at each.
const MANY: usize = 64;

/// A member that is of another type than it must be, or a text that is no object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` must be {expected}")]
pub struct Mistyped {
    pub name: String,
    pub expected: &'static str,
}

impl Mistyped {
    pub fn new(name: &str, expected: &'static str) -> Self {
        Self { name: name.to_owned(), expected }
    }
}

impl<'j> Object<'j> {
    /// Reads `text`, which is named `name` where it is none.
    pub fn parse(text: &'j str, name: &str) -> Result<Self, Mistyped> {
        serde_json::from_str(text).map_err(|_| Mistyped::new(name, "an object"))
    }

    /// Takes a member out; `None` where it is absent or `null`. Of two of one name the last counts.
    pub fn take(&mut self, name: &str) -> Option<&'j RawValue> {
        let found = if self.members.len() > MANY {
            let place = self.places.remove(name)?;
            self.members.get_mut(place)?.1.take()
        } else {
            let of_name = self.members.iter_mut().filter(|(known, _)| known == name);
            of_name.filter_map(|(_, value)| value.take()).last()
        };
        found.filter(|value| value.get() != "null")
    }

    /// The members nobody took, `null` ones left out, in their order.
    pub fn into_rest(self) -> impl Iterator<Item = (Cow<'j, str>, &'j RawValue)> {
        let left = self.members.into_iter().filter_map(|(name, value)| Some((name, value?)));
        left.filter(|(_, value)| value.get() != "null")
    }

    /// Takes out a member of type `T`, which `expected` describes.
    pub fn read<T: Deserialize<'j>>(
        &mut self,
        name: &str,
        expected: &'static str,
    ) -> Result<Option<T>, Mistyped> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let read = serde_json::from_str(value.get());
        read.map(Some).map_err(|_| Mistyped::new(name, expected))
    }

    pub fn string(&mut self, name: &str) -> Result<Option<String>, Mistyped> {
        self.read(name, "a string")
    }

    pub fn boolean(&mut self, name: &str) -> Result<Option<bool>, Mistyped> {
        self.read(name, "true or false")
    }

    pub fn number(&mut self, name: &str) -> Result<Option<f64>, Mistyped> {
        self.read(name, "a number")
    }

    pub fn unsigned(&mut self, name: &str) -> Result<Option<u64>, Mistyped> {
        self.read(name, "a whole number, not below 0")
    }

    pub fn object(&mut self, name: &str) -> Result<Option<Self>, Mistyped> {
        self.take(name).map(|value| Self::parse(value.get(), name)).transpose()
    }

    /// The elements of an array, each as it was written.
    pub fn array(&mut self, name: &str) -> Result<Option<Vec<&'j RawValue>>, Mistyped> {
        self.read(name, "an array")
    }

    /// The names of the members nobody took, `null` ones left out.
    pub fn rest(&self) -> impl Iterator<Item = &str> {
        let said = self.left().filter(|(_, value)| value.get() != "null");
        said.map(|(name, _)| name)
    }

    /// The names of all members that nobody took.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.left().map(|(name, _)| name)
    }

    fn left(&self) -> impl Iterator<Item = (&str, &'j RawValue)> {
        self.members.iter().filter_map(|(name, value)| Some((name.as_ref(), (*value)?)))
    }

    /// What is left, as an object; `None` when nothing is.
    pub fn text(&self) -> Option<String> {
        let mut text = String::new();
        for (name, value) in self.left() {
            text.push(if text.is_empty() { '{' } else { ',' });
            text.extend([quote(name).as_str(), ":", value.get()]);
        }
        if text.is_empty() {
            return None;
        }
        text.push('}');
        Some(text)
    }

    pub fn has(&self, name: &str) -> bool {
        self.left().any(|(known, value)| known == name && value.get() != "null")
    }
}

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Object<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members: Vec<(Cow<str>, Option<&RawValue>)> = Vec::with_capacity(8);
                while let Some(Name(name)) = map.next_key()? {
                    members.push((name, Some(map.next_value()?)));
                }
                let mut places = HashMap::new();
                if members.len() > MANY {
                    for at in 0..members.len() {
                        let Some((name, _)) = members.get(at) else { break };
                        let before = places.insert(name.clone(), at);
                        // Of two of one name the last counts.
                        if let Some((_, value)) = before.and_then(|at| members.get_mut(at)) {
                            *value = None;
                        }
                    }
                }
                Ok(Object { members, places })
            }
        }

        deserializer.deserialize_map(Members)
    }
}

/// A member's name, borrowed where nothing in it is escaped.
struct Name<'j>(Cow<'j, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl<'de> Visitor<'de> for Text {
            type Value = Name<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
                formatter.write_str("a name")
            }

            fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Borrowed(name)))
            }

            fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Owned(name.to_owned())))
            }
        }

        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_taken_and_the_rest_is_named() {
        let text = r#"{"a":1,"b":"x\n","c":null,"d\u0031":[1, 2],"e":{}}"#;
        let mut object = Object::parse(text, "body").unwrap();
        assert_eq!(object.unsigned("a"), Ok(Some(1)));
        assert_eq!(object.string("b"), Ok(Some("x\n".to_owned())));
        assert_eq!(object.string("c"), Ok(None));
        assert_eq!(object.array("d1").unwrap().unwrap().len(), 2);
        assert_eq!(object.rest().collect::<Vec<_>>(), ["e"]);
    }

    #[test]
    fn a_wrong_type_is_named() {
        let mut object = Object::parse(r#"{"a":"1"}"#, "body").unwrap();
        assert_eq!(
            object.unsigned("a").unwrap_err().to_string(),
            "`a` must be a whole number, not below 0"
        );
        assert_eq!(
            Object::parse("[]", "body").unwrap_err().to_string(),
            "`body` must be an object"
        );
    }
}
