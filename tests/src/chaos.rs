//! Faults on real processes, and whether the guarantees hold under them.
//!
//! A [`schedule`] says what happens, drawn from a seed and kept as data. The [`rig`] runs a mesh of `federationd`
//! processes with a [`proxy`] on every directed link and does to them what the schedule says. Meanwhile [`writer`]s
//! write through the [`caller`], which records the history; in the end [`observe`] asks the nodes what they hold, the
//! [`crate::checker`] judges, and the [`report`] says what happened and how much of it was reached. [`campaign`] puts
//! this together.
//!
//! A seed repeats the schedule and what each writer draws, not the interleaving: that is the kernel's.

pub mod caller;
pub mod campaign;
pub mod observe;
pub mod options;
pub mod proxy;
pub mod report;
pub mod rig;
pub mod schedule;
pub mod writer;
