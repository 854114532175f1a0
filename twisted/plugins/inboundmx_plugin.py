"""Makes ``twistd inboundmx`` known to Twisted. There is no __init__.py beside this file, nor above it, on purpose."""

from twisted.application.service import ServiceMaker

serviceMaker = ServiceMaker("inboundmx", "inboundmx.app.tap", "Inbound mail gateway and backup MX", "inboundmx")
