//! Joins the parts into a running server.
