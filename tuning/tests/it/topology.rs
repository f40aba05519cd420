//! The two machines as shards would sit on them.

use tuning::Topology;

use crate::{check::golden, machine::Machine};

#[test]
fn a_small_vm_is_described() {
    let machine = Machine::small_vm();
    let topology = Topology::read(&machine.root());
    golden("vm.topology.txt", &topology.to_text());
    golden("vm.topology.json", &(serde_json::to_string_pretty(&topology).expect("JSON") + "\n"));
}

#[test]
fn a_box_with_two_sockets_is_described() {
    let machine = Machine::two_socket();
    let topology = Topology::read(&machine.root());
    golden("two_socket.topology.txt", &topology.to_text());
    let placed: Vec<usize> = topology.cpus.iter().filter(|row| !row.shards.is_empty()).map(|row| row.cpu).collect();
    assert_eq!(placed, [0, 1, 2, 3, 4, 5, 6, 7], "one thread of each core");
}

#[test]
fn a_cpuset_and_a_quota_show() {
    let machine = Machine::two_socket();
    machine.put("proc/self/status", "Name:\tx\nCpus_allowed_list:\t4-7");
    machine.put("proc/self/cgroup", "0::/box");
    machine.put("sys/fs/cgroup/box/cpu.max", "250000 100000");
    let topology = Topology::read(&machine.root());
    assert_eq!((topology.shards, topology.quota, topology.cpus.len()), (2, Some(2.5), 4));
    let notes = topology.notes.join("\n");
    assert!(notes.contains("the quota pays for 2 of 4 cores"), "{notes}");
    assert!(notes.contains("may use 4 of 16 CPUs"), "{notes}");
    assert!(!notes.contains("on another"), "all are on the interface's node: {notes}");
}

#[test]
fn interrupts_are_known_by_name_where_the_device_lists_none() {
    let machine = Machine::small_vm();
    std::fs::remove_dir_all(machine.path().join("sys/devices/pci0000:00/0000:00:03.0/msi_irqs")).expect("removed");
    let topology = Topology::read(&machine.root());
    let irqs: Vec<u32> = topology.nics[0].interrupts.iter().map(|interrupt| interrupt.irq).collect();
    assert_eq!(irqs, [37, 38, 39]);
}
