//! What a packet costs a tunnel beside the kernel: cut, padded and encrypted on its way out, decrypted and joined
//! on its way in. The system calls for each super-packet, one at either side, are not in it.

use std::hint::black_box;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BatchSize, BenchmarkGroup, Criterion, Throughput};
use inroads_methods::wireguard::gso::{TAIL_ROOM, VirtioHeader};
use inroads_methods::wireguard::in_memory::End;

/// The method's interfaces have it.
const MTU: u16 = 1420;

/// IPv4 and TCP, without options, in bytes.
const HEADERS: u16 = 40;

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .without_plots()
        .configure_from_args();
    let mut group = criterion.benchmark_group("wireguard");
    // The second is the longest that there is.
    for (name, len) in [("1400 B", 1400), ("64 KiB", u16::MAX)] {
        let frame = Frame::new(len);
        check(&frame);
        group.throughput(Throughput::Bytes(len.into()));
        encapsulate(&mut group, name, &frame);
        decapsulate(&mut group, name, &frame);
    }
    group.finish();
    criterion.final_summary();
}

fn encapsulate(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, frame: &Frame) {
    let [mut laptop, _gateway] = ends();
    group.bench_function(format!("encapsulate/{name}"), |bencher| {
        // A cut writes headers over what was there.
        bencher.iter_batched_ref(
            || frame.buffer.clone(),
            |buffer| {
                frame.seal(buffer, &mut laptop, |datagram| {
                    black_box(datagram);
                });
            },
            BatchSize::PerIteration,
        );
    });
}

fn decapsulate(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, frame: &Frame) {
    let [mut laptop, mut gateway] = ends();
    group.bench_function(format!("decapsulate/{name}"), |bencher| {
        // No datagram is taken twice.
        bencher.iter_batched_ref(
            || frame.datagrams(&mut laptop),
            |datagrams| {
                gateway.open(datagrams.iter().map(Vec::as_slice), |parts| {
                    black_box(parts);
                });
            },
            BatchSize::PerIteration,
        );
    });
}

fn ends() -> [End; 2] {
    End::pair(MTU.into()).expect("fresh keys are two keys")
}

/// What goes in at one end comes out at the other, in as few frames as the gateway's interface takes.
fn check(frame: &Frame) {
    let [mut laptop, mut gateway] = ends();
    let datagrams = frame.datagrams(&mut laptop);
    let payload = &frame.buffer[HEADERS.into()..frame.len];
    let pieces = payload.len().div_ceil((MTU - HEADERS).into());
    assert_eq!(datagrams.len(), pieces);
    assert!(datagrams.iter().all(|it| it.len() <= usize::from(MTU) + 32));
    let (mut frames, mut came) = (0, Vec::new());
    gateway.open(datagrams.iter().map(Vec::as_slice), |parts| {
        frames += 1;
        let parts: Vec<&[u8]> = parts.iter().map(|part| &**part).collect();
        came.extend_from_slice(&parts.concat()[VirtioHeader::LEN + usize::from(HEADERS)..]);
    });
    assert_eq!(came, payload);
    // What waits for the interface is bounded, by a little less than the longest super-packet.
    assert!(frames <= 2, "{frames} frames");
}

/// A TCP segment as the kernel hands it over: whatever its length in one piece, its checksum for others to do.
struct Frame {
    header: VirtioHeader,
    buffer: Vec<u8>,
    len: usize,
}

impl Frame {
    fn new(len: u16) -> Self {
        let [high, low] = len.to_be_bytes();
        let mut packet = vec![0x45, 0, high, low, 0, 1, 0x40, 0, 64, 6, 0, 0];
        packet.extend([10, 0, 0, 2, 10, 0, 0, 1]);
        let checksum = !sum(&packet);
        packet[10..12].copy_from_slice(&checksum.to_be_bytes());
        let segment = len - 20;
        let pseudo_header = [&packet[12..20], &[0, 6], &segment.to_be_bytes()].concat();
        packet.extend([0x9c, 0x40, 0x01, 0xbb, 0, 0, 0, 1, 0, 0, 0, 1]);
        packet.extend([0x50, 0x10, 0xff, 0xff]);
        packet.extend(sum(&pseudo_header).to_be_bytes());
        packet.extend([0, 0]);
        packet.extend((0..=u8::MAX).cycle().take((len - HEADERS).into()));
        packet.extend([0; TAIL_ROOM]);
        let whole = len <= MTU;
        Self {
            header: VirtioHeader {
                flags: VirtioHeader::NEEDS_CHECKSUM,
                gso_type: if whole { 0 } else { VirtioHeader::TCP_V4 },
                header_len: HEADERS,
                gso_size: if whole { 0 } else { MTU - HEADERS },
                checksum_start: 20,
                checksum_offset: 16,
            },
            buffer: packet,
            len: len.into(),
        }
    }

    /// Encrypts it, which leaves nothing of use in `buffer`, its copy.
    fn seal(&self, buffer: &mut [u8], end: &mut End, wire: impl FnMut(&[u8])) {
        end.seal(&self.header, buffer, self.len, wire)
            .expect("it is what its header says");
    }

    /// What travels for it.
    fn datagrams(&self, from: &mut End) -> Vec<Vec<u8>> {
        let mut datagrams = Vec::new();
        self.seal(&mut self.buffer.clone(), from, |datagram| {
            datagrams.push(datagram.to_vec());
        });
        datagrams
    }
}

/// The Internet checksum's sum (RFC 1071) of an even number of bytes.
fn sum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks_exact(2);
    words.fold(0, |sum: u16, pair| {
        let (sum, carry) = sum.overflowing_add(u16::from_be_bytes([pair[0], pair[1]]));
        sum + u16::from(carry)
    })
}
