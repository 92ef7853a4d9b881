//! Attach connections: accepted, understood, and served as clients.

use rustix::event::epoll::EventFlags;

use super::output::Sink;
use super::{FIRST_CLIENT, Session};
use crate::io::attach::{Listener, Pending, Progress};
use crate::io::client::{Client, Heard};
use crate::io::poll::{Token, Watched};

const MAX_CLIENTS: usize = 64;
const MAX_PENDING: usize = 16;

impl Session {
    pub(super) fn accept(&mut self) {
        let Sink::Wharf(wharf) = &mut self.sink else { return };
        let Some(connection) = wharf.listener.as_ref().and_then(Listener::accept) else { return };
        if wharf.pending.len() >= MAX_PENDING {
            return;
        }
        let slot = wharf.next_slot;
        wharf.next_slot = slot.checked_add(1).unwrap_or(FIRST_CLIENT);
        let token = Token { session: self.id, slot };
        wharf.pending.push((slot, Pending::new(connection, &self.poll, token)));
    }

    pub(super) fn on_client(&mut self, slot: u32, flags: EventFlags, buffer: &mut [u8]) {
        let Sink::Wharf(wharf) = &mut self.sink else { return };
        if let Some(at) = wharf.pending.iter().position(|(s, _)| *s == slot) {
            match wharf.pending[at].1.on_readable(buffer) {
                Progress::Waiting => {}
                Progress::Over => {
                    wharf.pending.remove(at);
                }
                Progress::Request(request, client) => {
                    let (_, pending) = wharf.pending.remove(at);
                    if wharf.clients.len() >= MAX_CLIENTS {
                        return pending.refuse("too many clients are attached".to_owned());
                    }
                    let Ok(control) = pending.control() else { return };
                    drop(pending);
                    let (data, control) = match client {
                        Some(client) => (client, Some(control)),
                        None => (control, None),
                    };
                    let data = Watched::new(&self.poll, Token { session: self.id, slot }, data);
                    let mut client = Client::new(data, control, *request, self.terminal);
                    client.take_buffered(&mut self.stdin);
                    wharf.clients.push((slot, client));
                }
            }
        } else if let Some((_, client)) = wharf.clients.iter_mut().find(|(s, _)| *s == slot) {
            let heard = client.on_event(flags, &mut self.stdin, buffer);
            self.on_heard(heard);
        }
    }

    pub(super) fn on_heard(&mut self, heard: Heard) {
        if heard == Heard::StdinEnded && self.stdin_once {
            self.stdin.close_when_flushed();
        }
    }
}
