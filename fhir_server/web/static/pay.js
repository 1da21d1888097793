"use strict";
// Has the gateway's script ask for the card, and hands on what it makes of it: nothing of the card itself is in our form.
(function () {
  const form = document.getElementById("card-form");
  const fault = document.getElementById("card-fault");
  const gateway = window.Stripe(form.dataset.key);
  const card = gateway.elements().create("card");
  card.mount("#card");
  form.hidden = false;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = form.querySelector("button");
    button.disabled = true;
    const answer = await gateway.createToken(card).catch(() => ({ error: {} }));
    if (answer.error) {
      fault.textContent = answer.error.message || fault.dataset.text;
      fault.hidden = false;
      button.disabled = false;
      return;
    }
    form.elements.means.value = answer.token.card.id;
    form.submit();
  });
})();
