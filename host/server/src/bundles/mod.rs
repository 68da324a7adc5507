//! A model's weights and the component for each role.
