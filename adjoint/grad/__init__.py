"""Derivatives: tables of rules (`partials`, `transposes`, `explicit`) and the walks that apply them (`walk`)."""
