"""When the credentials of an application end, and who is told of it how long before."""
