//! What starts processes tells each of them, in its environment, that it is one of several.

/// Variables that hold a process's number and how many there are, of each launcher.
const LAUNCHERS: &[(&str, &str, &str)] = &[
    ("Open MPI", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    // Hydra, which starts processes of MPICH, Intel MPI and MVAPICH.
    ("Hydra", "PMI_RANK", "PMI_SIZE"),
    // Those of a job step: a batch script is no step, and is one process whatever was asked for.
    ("Slurm", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),
];

/// A process that was started as one of several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Launch {
    /// What started it.
    pub launcher: &'static str,
    /// Its number, from 0.
    pub rank: usize,
    /// How many there are.
    pub size: usize,
}

/// What the environment says of this process; nothing where no launcher has started it, or it is alone.
///
/// ```
/// use convnet::distributed::launched;
/// let variables = |name: &str| match name {
///     "PMI_RANK" => Some("1".to_owned()),
///     "PMI_SIZE" => Some("4".to_owned()),
///     _ => None,
/// };
/// let launch = launched(variables).unwrap();
/// assert_eq!((launch.launcher, launch.rank, launch.size), ("Hydra", 1, 4));
/// assert_eq!(launched(|_| None), None);
/// ```
pub fn launched(variable: impl Fn(&str) -> Option<String>) -> Option<Launch> {
    let number = |name: &str| variable(name)?.trim().parse::<usize>().ok();
    let found = LAUNCHERS.iter().find_map(|&(launcher, rank, size)| {
        let (rank, size) = (number(rank)?, number(size)?);
        Some(Launch { launcher, rank, size })
    });
    found.filter(|launch| launch.size > 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_launcher_is_known_by_its_variables() {
        let of = |pairs: &[(&str, &str)]| {
            launched(|name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
        };
        let open_mpi = of(&[("OMPI_COMM_WORLD_RANK", "3"), ("OMPI_COMM_WORLD_SIZE", "8"), ("PMI_RANK", "0")]);
        assert_eq!(open_mpi, Some(Launch { launcher: "Open MPI", rank: 3, size: 8 }));
        let slurm = of(&[("SLURM_PROCID", "1"), ("SLURM_STEP_NUM_TASKS", "2"), ("SLURM_NTASKS", "2")]);
        assert_eq!(slurm, Some(Launch { launcher: "Slurm", rank: 1, size: 2 }));
        // A batch script, and a process that is alone.
        assert_eq!(of(&[("SLURM_PROCID", "0"), ("SLURM_NTASKS", "8")]), None);
        assert_eq!(of(&[("PMI_RANK", "0"), ("PMI_SIZE", "1")]), None);
    }
}
