// Learns its id at ?client=…; is launched at ?iss=…, or by an EHR at ?iss=…&launch=…, and comes back to itself with the code.
const show = (id, text) => { document.getElementById(id).textContent = text; };

async function start() {
  const given = new URLSearchParams(location.search);
  if (given.has("client")) localStorage.setItem("client", given.get("client"));
  if (!given.has("iss") && !given.has("state")) return show("state", "prepared");
  const client = await FHIR.oauth2.init({
    clientId: localStorage.getItem("client"),
    scope: given.has("launch") ? "launch openid fhirUser patient/*.rs" : "launch/patient openid fhirUser offline_access patient/*.rs",
    redirectUri: location.origin + "/",
    pkceMode: "required",
  });
  await read(client);
  const button = document.getElementById("refresh");
  button.hidden = !client.getState("tokenResponse.refresh_token");
  button.addEventListener("click", () => report(async () => {
    const before = client.getState("tokenResponse.access_token");
    await client.refresh();
    await read(client);
    show("state", before === client.getState("tokenResponse.access_token") ? "the same" : "refreshed");
  }));
  show("state", "ready");
}

async function read(client) {
  const patient = await client.patient.read();
  show("patient", patient.name[0].family);
  const found = await client.request("Observation?_summary=count&patient=" + client.patient.id);
  show("count", String(found.total));
  show("scope", client.getState("tokenResponse.scope"));
  show("user", client.user.fhirUser || "");
}

const report = (work) => work().catch((error) => show("state", "failed: " + error.message));
report(start);
