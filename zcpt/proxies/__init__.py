"""Zero-cost proxies: a number for a network from one mini-batch, without training."""

from zcpt.proxies._registry import Proxy, get_proxy, list_proxies, register_proxy
from zcpt.proxies.naswot import Naswot, OfficialNaswot

__all__ = ["Naswot", "OfficialNaswot", "Proxy", "get_proxy", "list_proxies", "register_proxy"]
