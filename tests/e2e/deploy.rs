//! What is in `deploy/`, used as it is meant to be.
//!
//! Owns: the package under a systemd of its own, Kubernetes' objects, the image's root, and the least that Postgres and S3 have to grant.
//! Does not: have a cluster, a container engine or AWS; what they would be given is compared with what they document.
//! Holds: what cannot be had on this machine is a loud SKIP.
//! Fails: with what the tool concerned said.

mod aws;
mod image;
mod kubernetes;
mod package;
mod role;
mod systemd;
