//! `Address`: an IPv4 or IPv6 address as analyzers see it. It prints itself only when asked with `str()`.
use std::net::{IpAddr, Ipv6Addr};

use bunker_wire::Address as WireAddress;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

/// An address. Immutable, hashable, ordered; `repr` shows only its kind.
#[pyclass(frozen, eq, ord, hash, skip_from_py_object, module = "bunker._core")]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address(pub [u8; 16]);

/// Why a value is no address.
pub enum NoAddress {
    /// Of another Python type.
    Type,
    /// Right type, but no address.
    Value,
}

impl Address {
    /// An address from an `Address`, text, packed bytes, or an object of `ipaddress`.
    pub fn of(value: &Bound<'_, PyAny>) -> Result<Self, NoAddress> {
        if let Ok(address) = value.cast::<Self>() {
            return Ok(*address.get());
        }
        if let Ok(text) = value.cast::<PyString>() {
            let text = text.to_str().map_err(|_| NoAddress::Value)?;
            let parsed: IpAddr = text.parse().map_err(|_| NoAddress::Value)?;
            return Ok(match parsed {
                IpAddr::V4(address) => Self(WireAddress::v4(address.octets()).0),
                IpAddr::V6(address) => Self(address.octets()),
            });
        }
        if let Ok(bytes) = value.cast::<PyBytes>() {
            return Self::of_packed(bytes.as_bytes());
        }
        if let Ok(packed) = value.getattr("packed")
            && let Ok(bytes) = packed.cast::<PyBytes>()
        {
            return Self::of_packed(bytes.as_bytes());
        }
        Err(NoAddress::Type)
    }

    fn of_packed(bytes: &[u8]) -> Result<Self, NoAddress> {
        if let Ok(octets) = <[u8; 4]>::try_from(bytes) {
            return Ok(Self(WireAddress::v4(octets).0));
        }
        <[u8; 16]>::try_from(bytes).map(Self).map_err(|_| NoAddress::Value)
    }
}

#[pymethods]
impl Address {
    #[new]
    fn new(value: &Bound<'_, PyAny>) -> PyResult<Self> {
        Self::of(value).map_err(|fault| match fault {
            NoAddress::Type => PyTypeError::new_err("an address is made of text, packed bytes or an address"),
            NoAddress::Value => PyValueError::new_err("not an address"),
        })
    }

    fn __str__(&self) -> String {
        match WireAddress(self.0).maybe_v4() {
            Some([a, b, c, d]) => format!("{a}.{b}.{c}.{d}"),
            None => Ipv6Addr::from(self.0).to_string(),
        }
    }

    const fn __repr__(&self) -> &'static str {
        if WireAddress(self.0).maybe_v4().is_some() { "Address(4)" } else { "Address(16)" }
    }

    /// Four or sixteen bytes, network order.
    #[getter]
    fn packed<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        match WireAddress(self.0).maybe_v4() {
            Some(octets) => PyBytes::new(py, &octets),
            None => PyBytes::new(py, &self.0),
        }
    }

    /// 4 or 6.
    #[getter]
    const fn version(&self) -> u8 {
        if WireAddress(self.0).maybe_v4().is_some() { 4 } else { 6 }
    }
}
