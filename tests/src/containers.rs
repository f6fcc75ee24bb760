//! Containers for tests: podman with storage, settings and a network of its own, and images made here, as nobody has to
//! reach a registry of images.
//!
//! What stands for a published base image is this system's release of Debian, made once with mmdebstrap and kept in
//! `target/soak`. Only root can run these.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;
use tokio::process::Command;

use crate::process::{Finished, finished_within};

/// How long anything may take that an engine is asked to do: it copies a system of some hundred MB for each image.
const PATIENCE: Duration = Duration::from_secs(600);

/// How long a build may take that compiles the programs for their release.
const BUILD: Duration = Duration::from_secs(3000);

/// The compose program, of Python's package index: Debian's leaves profiles out.
const COMPOSE: &str = "podman-compose==1.6.0";

/// An engine whose images, containers and networks nobody else sees. All of them go when it is dropped.
pub struct Engine {
    folder: TempDir,
    /// The network namespace that everything runs in. Nothing leads out of it.
    network: String,
}

impl Engine {
    /// Starts one, or says why this process may not.
    pub async fn start() -> Result<Self, String> {
        let kept = kept();
        let folder = tempfile::Builder::new().prefix("engine-").tempdir_in(&kept).map_err(|error| error.to_string())?;
        let network = format!("rb-soak-{}", std::process::id());
        let engine = Self { folder, network };
        for args in [&["netns", "add", &engine.network][..], &["-n", &engine.network, "link", "set", "lo", "up"]] {
            let made = Command::new("ip").args(args).output().await.map_err(|error| format!("ip: {error}"))?;
            if !made.status.success() {
                return Err(format!("ip {args:?}: {}", String::from_utf8_lossy(&made.stderr).trim()));
            }
        }
        let folder = engine.folder.path().display();
        // The limits are those that a process without CAP_SYS_RESOURCE may set; events and groups of processes as they are
        // where systemd is not the first process.
        let settings = format!(
            "[containers]\ndefault_ulimits = [\"nofile=4096:4096\", \"nproc=4096:4096\"]\n\
             [engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\nruntime = \"runc\"\n\
             [network]\nnetwork_backend = \"netavark\"\nnetwork_config_dir = \"{folder}/networks\"\n"
        );
        let storage =
            format!("[storage]\ndriver = \"overlay\"\ngraphroot = \"{folder}/storage\"\nrunroot = \"{folder}/run\"\n");
        for (file, text) in [("containers.conf", settings), ("storage.conf", storage)] {
            std::fs::write(engine.file(file), text).map_err(|error| format!("{file}: {error}"))?;
        }
        let works = finished_within(PATIENCE, engine.command("podman", &["info"]), "").await;
        if works.code != 0 {
            return Err(format!("podman does not run here: {}", works.err.trim()));
        }
        Ok(engine)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A program in the engine's network, which finds this engine.
    pub fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(args);
        let mut command = self.inside(&command);
        self.found_by(&mut command);
        command
    }

    /// A program that finds this engine, in the network of this process: for builds that fetch what they are made from.
    pub fn command_outside(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(args);
        self.found_by(&mut command);
        command
    }

    /// Lets a command find this engine.
    fn found_by(&self, command: &mut Command) {
        command.env("CONTAINERS_CONF", self.file("containers.conf"));
        command.env("CONTAINERS_STORAGE_CONF", self.file("storage.conf"));
    }

    /// From now on the engine's network has this address: that of the machine, for containers and for programs in it.
    pub async fn machine_address(&self, address: IpAddr) {
        let address = address.to_string();
        let mut ip = Command::new("ip");
        ip.args(["-n", &self.network, "address", "add", &address, "dev", "lo"]);
        finished_within(PATIENCE, ip, "").await.ok();
    }

    /// The same command in the engine's network.
    pub fn inside(&self, command: &Command) -> Command {
        let command = command.as_std();
        let mut inside = Command::new("nsenter");
        inside.arg(format!("--net=/run/netns/{}", self.network)).arg("--").arg(command.get_program());
        inside.args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => inside.env(name, value),
                None => inside.env_remove(name),
            };
        }
        if let Some(folder) = command.get_current_dir() {
            inside.current_dir(folder);
        }
        inside
    }

    /// Runs podman to its end, which has to be a good one.
    pub async fn podman(&self, args: &[&str]) -> Finished {
        finished_within(PATIENCE, self.command("podman", args), "").await.ok()
    }

    /// An image of this system's release of Debian with these packages, and `changes` as a Dockerfile writes them.
    pub async fn debian(&self, image: &str, packages: &[&str], changes: &[&str]) {
        self.import(image, &debian(packages).await, changes).await;
    }

    /// The same, with folders and files of this machine in it: each with where it is here, and where it is there, both
    /// without the first `/`.
    pub async fn debian_with(&self, image: &str, packages: &[&str], changes: &[&str], with: &[(&str, &str)]) {
        let archive = self.file("with.tar");
        tokio::fs::copy(debian(packages).await, &archive).await.unwrap();
        for (here, there) in with {
            let mut tar = Command::new("tar");
            let transform = format!("--transform=s,^{here},{there},");
            tar.args(["--append", "--directory=/", &transform, "--file"]).arg(&archive).arg(here);
            finished_within(PATIENCE, tar, "").await.ok();
        }
        self.import(image, &archive, changes).await;
        tokio::fs::remove_file(archive).await.unwrap();
    }

    async fn import(&self, image: &str, archive: &Path, changes: &[&str]) {
        let changes = changes.iter().flat_map(|change| ["--change", change]);
        let args: Vec<_> =
            ["import", "--quiet"].into_iter().chain(changes).chain([archive.to_str().unwrap(), image]).collect();
        self.podman(&args).await;
    }

    /// An image that has these files in `/out`, beside what is in `base`; `scratch` has nothing.
    pub async fn image(&self, image: &str, base: &str, files: &[PathBuf]) {
        let folder = self.file("files");
        std::fs::create_dir_all(folder.join("out")).unwrap();
        for file in files {
            std::fs::copy(file, folder.join("out").join(file.file_name().unwrap())).unwrap();
        }
        std::fs::write(folder.join("Dockerfile"), format!("FROM {base}\nCOPY out /out\n")).unwrap();
        self.podman(&["build", "--quiet", "--tag", image, folder.to_str().unwrap()]).await;
        std::fs::remove_dir_all(folder).unwrap();
    }

    /// An image of a Dockerfile that copies nothing.
    pub async fn build(&self, image: &str, dockerfile: &str) {
        let build = self.command("podman", &["build", "--quiet", "--tag", image, "-"]);
        finished_within(PATIENCE, build, dockerfile).await.ok();
    }

    /// A compose project: this file with these settings.
    pub async fn project<'a>(&'a self, file: &Path, name: &'a str, settings: &[(&str, &str)]) -> Project<'a> {
        let program = compose().await;
        let project = Project { engine: self, program, file: file.to_owned(), name };
        project.set(settings);
        project
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let blocking = |program: &str, args: &[&str]| {
            let command = self.command(program, args);
            let command = command.as_std();
            let mut again = std::process::Command::new(command.get_program());
            again.args(command.get_args()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            again.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
            let _ = again.status();
        };
        blocking("podman", &["rm", "--all", "--force", "--time", "0", "--volumes"]);
        blocking("podman", &["network", "prune", "--force"]);
        blocking("umount", &["--recursive", self.file("storage/overlay").to_str().unwrap_or_default()]);
        let _ = std::process::Command::new("ip").args(["netns", "del", &self.network]).status();
    }
}

/// A compose project of an engine's.
pub struct Project<'a> {
    engine: &'a Engine,
    program: PathBuf,
    file: PathBuf,
    name: &'a str,
}

impl Project<'_> {
    fn settings(&self) -> PathBuf {
        self.engine.file(&format!("{}.env", self.name))
    }

    /// From now on these are its settings, as `.env` has them.
    pub fn set(&self, settings: &[(&str, &str)]) {
        let lines: String = settings.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
        std::fs::write(self.settings(), lines).unwrap();
    }

    /// A command of the compose program, not started yet.
    pub fn command(&self, args: &[&str]) -> Command {
        let args = self.args(args);
        self.engine.command(self.program.to_str().unwrap(), &args.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn args(&self, args: &[&str]) -> Vec<String> {
        let (file, settings) = (self.file.to_str().unwrap(), self.settings());
        let project = ["--project-name", self.name, "--file", file, "--env-file", settings.to_str().unwrap()];
        project.iter().chain(args).map(|&arg| arg.to_owned()).collect()
    }

    /// Builds the image of a service, of these profiles too, with `more` for podman. What it is made from is fetched as this
    /// machine fetches it.
    pub async fn build(&self, profiles: &[&str], service: &str, more: &str) {
        let podman = format!("--network=host --format docker {more}");
        let build = ["--podman-build-args", podman.trim_end(), "build", service];
        let args = self.args(&[profiles, &build].concat());
        let args: Vec<_> = args.iter().map(String::as_str).collect();
        let command = self.engine.command_outside(self.program.to_str().unwrap(), &args);
        finished_within(BUILD, command, "").await.ok();
    }

    /// Runs one to its end, which has to be a good one.
    pub async fn run(&self, args: &[&str]) -> Finished {
        finished_within(PATIENCE, self.command(args), "").await.ok()
    }

    /// The container of a service.
    pub fn container(&self, service: &str) -> String {
        format!("{}_{service}_1", self.name)
    }
}

/// Where is kept what takes long to make, and is the same each time.
fn kept() -> PathBuf {
    let kept = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/soak");
    std::fs::create_dir_all(&kept).unwrap();
    kept.canonicalize().unwrap()
}

/// The archive of a folder with this system's release of Debian, with these packages.
async fn debian(packages: &[&str]) -> PathBuf {
    let system = std::fs::read_to_string("/etc/os-release").unwrap();
    let release = system.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME=")).unwrap_or("stable");
    let archive = kept().join(format!("{release}-{}.tar", packages.join("-")));
    if archive.exists() {
        return archive;
    }
    let unfinished = archive.with_extension("unfinished.tar");
    let mut command = Command::new("mmdebstrap");
    command.args(["--variant=minbase", "--aptopt=Apt::Install-Recommends false"]);
    command.arg(format!("--include={}", packages.join(","))).arg(release).arg(&unfinished);
    finished_within(PATIENCE, command, "").await.ok();
    std::fs::rename(unfinished, &archive).unwrap();
    archive
}

/// The compose program, in a place of its own.
async fn compose() -> PathBuf {
    let place = kept().join("compose");
    let program = place.join("bin/podman-compose");
    if !program.exists() {
        let mut make = Command::new("python3");
        make.args(["-m", "venv", "--clear"]).arg(&place);
        finished_within(PATIENCE, make, "").await.ok();
        let mut install = Command::new(place.join("bin/pip"));
        install.args(["install", "--quiet", "--disable-pip-version-check", COMPOSE]);
        finished_within(PATIENCE, install, "").await.ok();
    }
    program
}
