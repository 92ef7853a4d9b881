//! Bodies of `/containers/…` and `/exec/…`.

pub mod config;
pub mod exec;
pub mod host_config;
pub mod inspect;
pub mod list;
pub mod mount;
pub mod network;
pub mod simple;
pub mod words;

pub use config::{Config, HealthConfig};
pub use exec::{ExecCreate, ExecInspect, ExecProcess, ExecStart};
pub use host_config::{
    DeviceMapping, DeviceRequest, HostConfig, LogConfig, RestartPolicy, ThrottleDevice, Ulimit, UpdateBody,
    WeightDevice,
};
pub use inspect::{GraphDriver, Health, HealthcheckResult, Inspect, State};
pub use list::{HostConfigSummary, NetworksOnly, Port, Summary};
pub use mount::{BindOptions, Driver, ImageOptions, Mount, MountPoint, TmpfsOptions, VolumeOptions};
pub use network::{
    EndpointIpamConfig, EndpointSettings, NetworkSettings, NetworkingConfig, PortBinding, PortMap,
};
pub use simple::{
    CreateParts, CreateResponse, IdResponse, PruneReport, TopResponse, UpdateResponse, WaitError,
    WaitResponse,
};
pub use words::{Empty, Words};
