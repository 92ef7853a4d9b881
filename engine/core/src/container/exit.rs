//! Ending and removing.

use std::time::{Duration, SystemTime};

use engine_backend::Exit;
use tokio::time::Instant;
use wharf_docker::time::Time;
use wharf_kinds::Kind;

use super::actor::Actor;
use super::phase::{Ended, Phase};
use super::restart;
use crate::error::EngineError;

impl Actor {
    /// The first process ended. The exit is recorded before the shim's own record of it is let go.
    pub(super) async fn exited(&mut self, pid: u32, exit: Exit) {
        let Phase::Running(run) = &self.record.phase else { return };
        if pid != 0 && pid != run.pid {
            // of an earlier run
            return;
        }
        let ended = run.clone().ended(i64::from(exit.status), exit.at);
        let ran = duration(ended.started_at, ended.finished_at);
        let code = ended.code;
        let again = !self.held
            && !self.removing
            && restart::wanted(
                &self.record.host.restart_policy,
                code,
                self.record.restart_count,
                self.cancelled,
            );
        let auto_remove = self.record.host.auto_remove && !again && !self.held && !self.removing;
        self.exits += 1;
        self.last_exit = code;
        if again {
            self.record.restart_count += 1;
            self.restart_at = Some(Instant::now() + self.pauses.next(ran));
            self.record.phase = Phase::Restarting { ended };
        } else {
            self.record.phase = Phase::Exited { ended };
        }
        let recorded = if auto_remove {
            self.removing = true;
            true
        } else {
            self.save_or_log().await
        };
        self.show();
        self.event("die", &[("execDuration", ran.as_secs().to_string()), ("exitCode", code.to_string())]);
        if recorded {
            self.let_go().await;
        } else {
            // the shim's record is the only lasting one: kept until the next start, removal or recovery
            self.may_have_task = true;
        }
        self.end_execs().await;
        if auto_remove && let Err(error) = self.remove(true).await {
            tracing::error!(container = self.record.id, %error, "container cannot be removed");
            self.removing = false;
            self.removal_error = Some(error.to_string());
            self.show();
        }
    }

    /// Deletes the ended task, whose exit is recorded.
    async fn let_go(&mut self) {
        match self.shared.lifecycle.delete(&self.record.id, "").await {
            Ok(_) => self.may_have_task = false,
            Err(error) if error.is_not_found() => self.may_have_task = false,
            Err(error) if error.kind() == Kind::Unavailable => {
                self.may_have_task = true;
                tracing::warn!(container = self.record.id, %error, "ended task is left to be deleted on reconnection");
            }
            Err(_) => self.take_back_or_log().await,
        }
    }

    /// Execs end with their container.
    async fn end_execs(&self) {
        for exec in self.shared.registry.execs_of(&self.record.id) {
            exec.exited(&self.shared, Exit { status: 137, at: None }).await;
        }
    }

    /// Removes a container that does not run: its record first, so that a start of the daemon finishes what this
    /// leaves undone.
    pub(super) async fn remove(&mut self, volumes: bool) -> Result<(), EngineError> {
        let id = self.record.id.clone();
        if let Phase::Running(_) = self.record.phase {
            return Err(EngineError::Conflict(format!("container {id} is running")));
        }
        self.shared.records.delete_container(&id).await?;
        if let Err(error) = self.erase(volumes).await {
            if error.kind() != Kind::Unavailable {
                let ended = self.record.phase.ended().cloned().unwrap_or_else(Ended::default);
                self.record.phase = Phase::Dead { ended, why: error.to_string() };
            }
            self.removing = false;
            self.removal_error = Some(error.to_string());
            self.save_or_log().await;
            self.show();
            return Err(error);
        }
        self.shared.registry.remove(&id, &self.record.name);
        self.removed = true;
        self.show();
        self.shared.usage.remove(&id);
        self.event("destroy", &[]);
        Ok(())
    }

    async fn erase(&mut self, volumes: bool) -> Result<(), EngineError> {
        // a task whose creation or end was uncertain goes before what it stands on
        if self.may_have_task {
            self.take_back().await?;
        }
        let id = &self.record.id;
        self.shared.lifecycle.erase(id).await?;
        let dirs = [self.shared.config.container_dir(id), self.shared.config.stdio_dir(id)];
        tokio::task::spawn_blocking(move || {
            for dir in &dirs {
                match std::fs::remove_dir_all(dir) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        return Err(EngineError::host(format!("remove {}", dir.display()), error));
                    }
                    _ => {}
                }
            }
            Ok(())
        })
        .await
        .map_err(|error| EngineError::Internal(error.to_string()))??;
        if volumes {
            for name in &self.record.anonymous_volumes {
                self.shared.volumes.remove_unused(&self.shared, name).await;
            }
        }
        Ok(())
    }
}

fn duration(from: Time, to: Time) -> Duration {
    SystemTime::from(to).duration_since(SystemTime::from(from)).unwrap_or_default()
}
