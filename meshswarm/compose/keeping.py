"""The attribute table's rows of what outlives tasks: volumes, networks, configs and secrets."""

from meshswarm.compose import files, networks, shapes
from meshswarm.compose.rows import PASSED, Rows, ignored, later, refused, yes
from meshswarm.compose.shapes import text, written

VOLUME: Rows = (
    yes("name", text, "Its name at the engine; default: STACK_VOLUME"),
    yes("external", shapes.flag, "It exists already, and is neither made nor changed"),
    yes("driver", text, "Driver; default: local"),
    yes("driver_opts", shapes.options, "Options of the driver"),
    yes("labels", shapes.labels, "Labels, set when it is made"),
)

NETWORK: Rows = (
    yes("name", text, "Its name; default: STACK_NETWORK"),
    yes("external", shapes.flag, "It exists on each node, and is neither made nor removed"),
    yes("internal", shapes.flag, "Without a way out of the host"),
    yes("driver", written(networks.driver), "bridge (default)"),
    yes("driver_opts", shapes.options, "Options of the driver"),
    yes("labels", shapes.labels, "Labels, set when it is made"),
    ignored("attachable", "`attachable` has no effect: whoever may use the engine may join"),
    *later("ipam enable_ipv4 enable_ipv6", PASSED),
)

USE: Rows = (
    yes("source", text, "Which: its name under the file's own"),
    yes("target", text, "Path of the file; a process: its name"),
    yes("uid", files.owner, "Number of the user it belongs to (0)"),
    yes("gid", files.owner, "Number of its group (0)"),
    yes("mode", files.mode, "Permission bits (0444; a process: 0400)"),
)

DEFINITION: Rows = (
    yes("file", shapes.path, "File with its content, seen from the project directory"),
    yes("environment", text, "Variable with its content"),
    yes("content", text, "Its content"),
    yes("external", shapes.flag, "It exists already: `meshswarm config|secret create`"),
    yes("name", written(files.full_name), "Its name in the cluster; default: STACK_NAME"),
    yes("labels", shapes.labels, "Labels of it"),
    *later("template_driver", "templates come with a later release; remove it"),
    *refused("driver driver_opts", "the cluster itself keeps it; remove it"),
)
