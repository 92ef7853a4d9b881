//! `GET /events`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::omit;

/// Docker's `events.Message`, with the three lower-case fields that API versions up to 1.51 repeat.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Message {
    #[serde(skip_serializing_if = "omit::zero")]
    pub status: String,
    #[serde(skip_serializing_if = "omit::zero")]
    pub id: String,
    #[serde(skip_serializing_if = "omit::zero")]
    pub from: String,
    #[serde(rename = "Type")]
    pub r#type: String,
    #[serde(rename = "Action")]
    pub action: String,
    #[serde(rename = "Actor")]
    pub actor: Actor,
    #[serde(skip_serializing_if = "omit::zero")]
    pub scope: String,
    /// Seconds since the epoch.
    #[serde(skip_serializing_if = "omit::zero")]
    pub time: i64,
    #[serde(rename = "timeNano", skip_serializing_if = "omit::zero")]
    pub time_nano: i64,
}

/// What it happened to.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Actor {
    #[serde(rename = "ID")]
    pub id: String,
    #[serde(rename = "Attributes")]
    pub attributes: BTreeMap<String, String>,
}
