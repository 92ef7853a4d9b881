//! events: exchange, filters, subscriptions
