//! Keys that take a number or one of a few names. Written by hand: what serde says about an untagged enum names the type
//! in the program, not what the user may write.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::Error as NameError;
use serde::de::{Deserialize, Deserializer, Error, IntoDeserializer, Visitor};

/// Reads a number or a name of `N`; `allowed` says in a message what both may be.
pub(super) fn number_or_name<'de, D, N, T>(
    deserializer: D,
    allowed: &'static str,
    number: fn(f64) -> T,
    named: fn(N) -> T,
) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    N: Deserialize<'de>,
{
    deserializer.deserialize_any(NumberOrName { allowed, number, named, lifetime: PhantomData })
}

struct NumberOrName<'de, N, T> {
    allowed: &'static str,
    number: fn(f64) -> T,
    named: fn(N) -> T,
    lifetime: PhantomData<&'de ()>,
}

impl<'de, N: Deserialize<'de>, T> Visitor<'de> for NumberOrName<'de, N, T> {
    type Value = T;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.allowed)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<T, E> {
        Ok((self.number)(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<T, E> {
        Ok((self.number)(value as f64))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<T, E> {
        Ok((self.number)(value as f64))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<T, E> {
        let name: Result<N, NameError> = N::deserialize(value.into_deserializer());
        name.map(self.named).map_err(|_| E::custom(format_args!("it must be {}", self.allowed)))
    }
}
