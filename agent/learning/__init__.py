"""Verified sessions become data, data becomes an adapter, and a gate decides whether it is used."""
